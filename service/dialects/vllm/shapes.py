"""vLLM's JSON where it is not OpenAI's: errors, models, and what its answers have more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from service.dialects.answers import Answer
from service.dialects.failures import Failure
from service.dialects.openai.shapes import encode_permission
from service.events import Finished

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus

ERROR_TYPES: Final = {
    400: "BadRequestError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "RequestEntityTooLargeError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    """`code` is the status, as a number. A full queue is 503: that is what its clients retry. Of a
    wrong key it says nothing more."""
    if failure.code == "invalid_api_key":
        return failure.status, {"error": "Unauthorized"}
    status = 503 if failure.code == "queue_full" else failure.status
    other = "InternalServerError" if status >= 500 else "BadRequestError"
    error = {
        "message": failure.message,
        "type": ERROR_TYPES.get(status, other),
        "param": failure.param,
        "code": status,
    }
    return status, {"error": error | failure.numbers}


def encode_model(status: ModelStatus) -> dict[str, Any]:
    card, facts = status.card, status.facts
    return {
        "id": card.name,
        "object": "model",
        "created": int(card.modified),
        "owned_by": "vllm",
        "root": card.name,
        "parent": None,
        # What one sequence may hold is known of a loaded model only.
        "max_model_len": facts.n_ctx_seq if facts else None,
        "permission": [encode_permission(card)],
    }


def tool_id(id: str) -> str:
    return f"chatcmpl-tool-{id.removeprefix('call_')}"


def encode_metrics(end: Finished) -> dict[str, float | None] | None:
    """What the engine measured, in milliseconds; nothing of an answer that never began."""
    times, tokens = end.timings, end.usage.generation_tokens
    if times.scheduled is None or times.first_token is None or times.last_token is None:
        return None
    decoding = times.last_token - times.first_token
    # The first token's time belongs to the prompt.
    gaps = tokens - 1
    return {
        "time_to_first_token_ms": (times.first_token - times.queued) * 1000,
        "generation_time_ms": decoding * 1000,
        "queue_time_ms": (times.scheduled - times.queued) * 1000,
        "mean_itl_ms": decoding / gaps * 1000 if gaps > 0 else None,
        "tokens_per_second": gaps / decoding if gaps > 0 and decoding > 0 else None,
    }


def as_vllms(body: dict[str, Any], answers: Sequence[Answer]) -> dict[str, Any]:
    """An answer in OpenAI's shape, with what vLLM's always have: keys that may be null."""
    for choice in body["choices"]:
        choice.setdefault("stop_reason", None)
        choice.setdefault("token_ids", None)
        for call in choice.get("message", {}).get("tool_calls", ()):
            call["id"] = tool_id(call["id"])
    ends = [answer.finished for answer in answers if answer.finished is not None]
    body.setdefault("prompt_logprobs", None)
    body.setdefault("prompt_token_ids", None)
    body["kv_transfer_params"] = None
    body["metrics"] = encode_metrics(ends[0]) if len(ends) == 1 else None
    return body
