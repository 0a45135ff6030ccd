"""Parts of TGI's JSON that more than one of its endpoints writes, and its errors. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from service.dialects.failures import Failure
from service.dialects.openai.shapes import finite
from service.dialects.tgi.tokens import Token
from service.events import Finished, Logprob

if TYPE_CHECKING:
    from service.facts import ModelFacts

# The release whose interface this is; the last there will be.
TGI_VERSION: Final = "3.3.6"
FINGERPRINT: Final = f"{TGI_VERSION}-native"

# Failure.code → TGI's word for it, its status, and what it says before the reason.
KINDS: Final = {
    "queue_full": ("overloaded", 429),
    "rate_limit_exceeded": ("overloaded", 429),
    "engine_failed": ("generation", 424),
    "engine_crashed": ("generation", 424),
    "model_load_failed": ("generation", 424),
    "insufficient_memory": ("generation", 424),
    "cancelled": ("generation", 424),
    "slow_reader": ("generation", 424),
    "timeout": ("generation", 424),
    "draining": ("healthcheck", 503),
    "unloaded": ("healthcheck", 503),
    "model_unavailable": ("healthcheck", 503),
    "queue_timeout": ("overloaded", 503),
    "model_not_found": ("model_not_found", 404),
    "internal_error": ("generation", 500),
}
OTHER_KINDS: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    501: "not_supported",
}


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    """What is the client's to mend is 422, whatever it is."""
    kind, status = KINDS.get(failure.code or "", ("", failure.status))
    if not kind:
        kind = OTHER_KINDS.get(status, "validation" if status < 500 else "generation")
    if kind == "validation" and failure.code is not None:
        kind, status = fault_of(failure), 422
    return status, {"error": sentence(kind, failure), "error_type": kind}


def fault_of(failure: Failure) -> str:
    """The part of the request that is wrong has a word of its own where it is a chat's."""
    if failure.param == "messages" and "template" in failure.message:
        return "template_error"
    if (failure.param or "").startswith("tool"):
        return "tool_error"
    return "validation"


def sentence(kind: str, failure: Failure) -> str:
    message = failure.message
    if failure.code == "context_length_exceeded":
        longest, given = failure.numbers["n_ctx"], failure.numbers["n_prompt_tokens"]
        message = f"`inputs` must have less than {longest} tokens. Given: {given}"
    match kind:
        case "overloaded" if failure.code == "queue_full":
            return "Model is overloaded"
        case "generation":
            return f"Request failed during generation: {message}"
        case "template_error":
            return f"Template error: {message}"
        case "tool_error":
            return f"Tool error: {message}"
        case "validation" if failure.code is not None:
            return f"Input validation error: {named(failure.param, message)}"
    return message


def named(param: str | None, message: str) -> str:
    """The sentence is all that a client gets, so it has to say what it is about."""
    known = param is None or param.rpartition(".")[2] in message or "`inputs`" in message
    return message if known else f"{param}: {message}"


def encode_token(token: Token) -> dict[str, Any]:
    chosen = token.logprobs.chosen
    return {
        "id": chosen.token,
        "text": token.text,
        "logprob": finite(chosen.logprob),
        "special": token.special,
    }


def encode_top(token: Token, facts: ModelFacts) -> list[dict[str, Any]]:
    return [encode_alternative(other, facts) for other in token.logprobs.top]


def encode_alternative(other: Logprob, facts: ModelFacts) -> dict[str, Any]:
    return {
        "id": other.token,
        "text": other.piece.decode("utf-8", "replace"),
        "logprob": finite(other.logprob),
        # Of tokens that were not sampled, only those that end an answer are known as such.
        "special": other.token in facts.eog_tokens,
    }


def timing_headers(
    end: Finished, facts: ModelFacts, characters: int, arrived: float
) -> dict[str, str]:
    """Milliseconds, but for the time in seconds that is billed by. What is not known is absent."""
    times, tokens = end.timings, end.usage.generation_tokens
    total = time.monotonic() - arrived
    headers = {
        "x-compute-type": compute_type(facts),
        "x-compute-time": f"{total:.6f}",
        "x-compute-characters": str(characters),
        "x-total-time": milliseconds(total),
        "x-validation-time": milliseconds(times.queued - arrived),
        "x-prompt-tokens": str(end.usage.prompt_tokens),
        "x-generated-tokens": str(tokens),
    }
    if times.scheduled is not None:
        headers["x-queue-time"] = milliseconds(times.scheduled - times.queued)
        if times.finished is not None:
            inference = times.finished - times.scheduled
            headers["x-inference-time"] = milliseconds(inference)
            if tokens:
                headers["x-time-per-token"] = milliseconds(inference / tokens)
    return headers


def compute_type(facts: ModelFacts) -> str:
    return "gpu" if facts.gpu_offload else "cpu"


def milliseconds(seconds: float) -> str:
    return str(round(max(seconds, 0.0) * 1000))
