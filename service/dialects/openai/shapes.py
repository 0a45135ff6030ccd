"""Parts of the OpenAI dialect's JSON that more than one of its endpoints writes. Pure."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.catalog.card import ModelCard
from service.dialects.failures import Failure
from service.events import (
    Event,
    Finished,
    FinishReason,
    Logprob,
    PromptLogprobs,
    Timings,
    TokenLogprobs,
    Usage,
)

# JSON has no infinity; OpenAI writes this for a token that could not be sampled.
LEAST_LOGPROB: Final = -9999.0

FINISH_REASONS: Final = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    # A deadline is a limit too; `timed_out` tells it from the token limit.
    FinishReason.TIMEOUT: "length",
}

ERROR_TYPES: Final = {
    403: "permission_error",
    429: "rate_limit_error",
    501: "not_supported_error",
}


@dataclass(frozen=True)
class Envelope:
    """What is the same in every chunk of one response, and in the response itself."""

    id: str
    created: int
    model: str
    fingerprint: str

    def fields(self, object: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def encode_error(failure: Failure) -> dict[str, Any]:
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    error = {
        "message": failure.message,
        "type": ERROR_TYPES.get(failure.status, kind),
        "param": failure.param,
        "code": failure.code,
    }
    return {"error": error | failure.numbers}


def encode_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generation_tokens,
        "total_tokens": usage.prompt_tokens + usage.generation_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class UsageSoFar:
    """What a stream has taken so far, for chunks that tell it: vLLM's continuous_usage_stats.

    prompts: the tokens of each prompt by its number, as far as they are known.
    """

    def __init__(self, prompts: Mapping[int, int]) -> None:
        self._prompts = prompts
        self._tokens: dict[int, int] = {}

    def add(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._tokens[event.index] = event.usage.generation_tokens
        elif not isinstance(event, PromptLogprobs):
            self._tokens[event.index] = self._tokens.get(event.index, 0) + event.tokens

    def encode(self) -> dict[str, int]:
        """How much of a prompt was cached is known at the end."""
        prompt, generated = sum(self._prompts.values()), sum(self._tokens.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
        }


def encode_end(end: Finished, *, legacy: bool = False) -> dict[str, Any]:
    """finish_reason, and beside it what vLLM and we say more."""
    reason = FINISH_REASONS.get(end.reason, "stop")
    if legacy and reason == "tool_calls":
        reason = "function_call"
    fields: dict[str, Any] = {"finish_reason": reason}
    if end.stop is not None:
        fields["stop_reason"] = end.stop
    if end.reason is FinishReason.TIMEOUT:
        fields["timed_out"] = True
    return fields


def piece(logprob: Logprob, as_ids: bool) -> str:
    # Half a code point has no text of its own; `bytes` has it exactly.
    return f"token_id:{logprob.token}" if as_ids else logprob.piece.decode("utf-8", "replace")


def finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def encode_logprob(logprob: Logprob, as_ids: bool) -> dict[str, Any]:
    return {
        "token": piece(logprob, as_ids),
        "logprob": finite(logprob.logprob),
        "bytes": list(logprob.piece),
    }


def encode_logprobs(tokens: Sequence[TokenLogprobs], as_ids: bool = False) -> dict[str, Any]:
    content = [
        encode_logprob(token.chosen, as_ids)
        | {"top_logprobs": [encode_logprob(other, as_ids) for other in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def encode_prompt_logprobs(
    tokens: Sequence[TokenLogprobs | None],
) -> list[dict[str, Any] | None]:
    """vLLM's: for each prompt token, the likely ones and the actual one by id."""
    return [None if token is None else ranked(token) for token in tokens]


def ranked(token: TokenLogprobs) -> dict[str, Any]:
    def entry(logprob: Logprob, rank: int | None) -> dict[str, Any]:
        text = logprob.piece.decode("utf-8", "replace")
        return {"logprob": finite(logprob.logprob), "rank": rank, "decoded_token": text}

    ranks = {str(other.token): entry(other, rank) for rank, other in enumerate(token.top, 1)}
    # The rank of a token that is not among the likeliest is not known.
    return {str(token.chosen.token): entry(token.chosen, None)} | ranks


def encode_timings(end: Finished) -> dict[str, Any] | None:
    """llama-server's `timings`, where the answer got as far as a second token."""
    times: Timings = end.timings
    if times.scheduled is None or times.first_token is None or times.last_token is None:
        return None
    computed = end.usage.prompt_tokens - end.usage.cached_tokens
    prompt_ms = (times.first_token - times.scheduled) * 1000
    predicted_ms = (times.last_token - times.first_token) * 1000
    # The first token's time belongs to the prompt.
    predicted = end.usage.generation_tokens - 1
    return {
        "cache_n": end.usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": prompt_ms,
        "prompt_per_second": computed / prompt_ms * 1000 if prompt_ms > 0 else None,
        "predicted_n": end.usage.generation_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_second": predicted / predicted_ms * 1000 if predicted_ms > 0 else None,
    }


@functools.lru_cache(64)
def fingerprint(*parts: object) -> str:
    """Changes with whatever the same seed's text may change with: build, weights, slots."""
    return "fp_" + hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


def encode_permission(card: ModelCard) -> dict[str, Any]:
    """What OpenAI once said of each model, and vLLM says to this day."""
    return {
        "id": f"modelperm-{(card.digest or card.name).removeprefix('sha256:')[:32]}",
        "object": "model_permission",
        "created": int(card.modified),
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
