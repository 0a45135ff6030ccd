"""Parts of llama-server's JSON that more than one of its endpoints writes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from service.dialects.failures import Failure
from service.dialects.openai.shapes import encode_timings, finite
from service.events import Finished, Logprob, TokenLogprobs
from service.generation import SamplingParams

NAME: Final = "llama-server"

ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "unavailable_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    status = failure.status
    kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if failure.code == "context_length_exceeded":
        kind = "exceed_context_size_error"
    error = {"code": status, "message": failure.message, "type": kind}
    return status, {"error": error | failure.numbers}


def encode_settings(sampling: SamplingParams, stream: bool = False) -> dict[str, Any]:
    """What an answer was sampled with, under llama-server's names."""
    limit = -1 if sampling.max_tokens is None else sampling.max_tokens
    return {
        "seed": -1 if sampling.seed is None else sampling.seed,
        "temperature": sampling.temperature,
        "dynatemp_range": sampling.dynatemp_range,
        "dynatemp_exponent": sampling.dynatemp_exponent,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "top_n_sigma": sampling.top_n_sigma,
        "xtc_probability": sampling.xtc_probability,
        "xtc_threshold": sampling.xtc_threshold,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repeat_last_n,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "dry_penalty_last_n": sampling.dry_penalty_last_n,
        "dry_sequence_breakers": list(sampling.dry_sequence_breakers),
        "mirostat": sampling.mirostat,
        "mirostat_tau": sampling.mirostat_tau,
        "mirostat_eta": sampling.mirostat_eta,
        # There is no such sampler here, which is how llama-server writes that it is off.
        "adaptive_target": -1.0,
        "adaptive_decay": 0.9,
        "stop": list(sampling.stop),
        "max_tokens": limit,
        "n_predict": limit,
        "n_probs": sampling.logprobs or 0,
        "ignore_eos": sampling.ignore_eos,
        "stream": stream,
        # A ban has no number in JSON; llama-server writes false where it reads one.
        "logit_bias": [
            {"token": token, "bias": False if math.isinf(bias) else bias}
            for token, bias in sampling.logit_bias.items()
        ],
    }


def encode_speed(end: Finished) -> dict[str, Any] | None:
    """`timings`, with the milliseconds a token took; absent where there was no second token."""
    timings = encode_timings(end)
    if timings is None:
        return None
    for part in ("prompt", "predicted"):
        speed = timings[f"{part}_per_second"]
        timings[f"{part}_per_token_ms"] = 1000 / speed if speed else None
    return timings


def encode_probabilities(tokens: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    return [
        encode_token(token.chosen) | {"top_logprobs": [encode_token(other) for other in token.top]}
        for token in tokens
    ]


def encode_token(logprob: Logprob) -> dict[str, Any]:
    return {
        "id": logprob.token,
        "token": logprob.piece.decode("utf-8", "replace"),
        "bytes": list(logprob.piece),
        "logprob": finite(logprob.logprob),
    }


def encode_piece(token: int, piece: bytes) -> dict[str, Any]:
    """Half a code point has no text; its bytes stand there as numbers, as llama-server does it."""
    try:
        return {"id": token, "piece": piece.decode()}
    except UnicodeDecodeError:
        return {"id": token, "piece": list(piece)}
