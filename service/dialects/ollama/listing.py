"""Models as Ollama lists them: GET /api/tags, /api/ps. Pure, apart from the clocks it is given."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from service.catalog.card import UNSUITABLE, ModelCard, Reason, human
from service.dialects.framing import encode_json
from service.dialects.ollama.shapes import SECOND, rfc3339

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus

CAPABILITIES: Final = (
    "completion", "tools", "insert", "vision", "embedding", "thinking", "audio", "rerank",
)  # fmt: skip
LISTED: Final = UNSUITABLE | {None}
FORMATS: Final[dict[Reason | None, str]] = {"safetensors": "safetensors", "cloud": ""}
# What Go's clients take for "for ever": the largest number of nanoseconds that it has.
FOR_EVER: Final = 2**63 - 1


def encode_tags(models: Iterable[tuple[ModelCard, Collection[str]]]) -> dict[str, Any]:
    """The newest first, as Ollama does. After them what is whole and not for this server, with the
    reason; what is broken is not listed."""
    listed = [entry for entry in models if entry[0].reason in LISTED]
    listed.sort(key=lambda entry: entry[0].modified, reverse=True)
    listed.sort(key=lambda entry: entry[0].problem is not None)
    return {"models": [encode_tag(card, able) for card, able in listed]}


def encode_tag(card: ModelCard, able: Collection[str]) -> dict[str, Any]:
    return {
        "name": card.name,
        "model": card.name,
        "modified_at": modified(card),
        "size": card.size_bytes,
        "digest": digest_of(card),
        "details": details_of(card),
        "capabilities": capabilities(able),
        **status_of(card),
    }


def status_of(card: ModelCard) -> dict[str, str]:
    """Why a model cannot be used, in a word and in a sentence; nothing of those that can."""
    if card.problem is None:
        return {}
    return {"status": card.reason or "unusable", "status_reason": card.problem}


def encode_ps(models: Iterable[ModelStatus], wall: int, clock: float) -> dict[str, Any]:
    """Those in memory, the one that stays longest first. `wall` is in nanoseconds."""
    entries = []
    for status in models:
        if status.facts is None:
            continue
        left = FOR_EVER if (status.keep_alive or 0) < 0 else remaining(status, clock)
        entries.append((left, encode_loaded(status, wall + left)))
    entries.sort(key=lambda entry: entry[0], reverse=True)
    return {"models": [entry for _, entry in entries]}


def remaining(status: ModelStatus, clock: float) -> int:
    """Nanoseconds until it goes. While it works, that is counted from now on."""
    if status.expires is not None:
        return max(0, round((status.expires - clock) * SECOND))
    return round((status.keep_alive or 0) * SECOND)


def encode_loaded(status: ModelStatus, expires: int) -> dict[str, Any]:
    card, facts = status.card, status.facts
    assert facts is not None
    loaded = {
        "name": card.name,
        "model": card.name,
        "size": facts.size_bytes,
        "digest": digest_of(card),
        "details": details_of(card),
        "expires_at": rfc3339(expires),
        "context_length": facts.n_ctx_seq,
    }
    if not facts.gpu_offload:
        # With GPUs, how much of it lies there is the driver's to say, and nobody asked it.
        loaded["size_vram"] = 0
    return loaded


def details_of(card: ModelCard) -> dict[str, Any]:
    family = card.family or card.architecture or ""
    size = human(card.parameter_count) if card.parameter_count else ""
    details: dict[str, Any] = {
        "parent_model": card.parent or "",
        "format": FORMATS.get(card.reason, "gguf"),
        "family": family,
        "families": list(card.families) or ([family] if family else []),
        "parameter_size": card.parameter_size or size,
        "quantization_level": card.quantization or "",
    }
    lengths = {"context_length": card.context_length, "embedding_length": card.embedding_length}
    return details | {key: length for key, length in lengths.items() if length is not None}


def digest_of(card: ModelCard) -> str:
    """Sixty-four hexadecimal digits that change whenever the model does.

    Ollama's digest is of a manifest, not of weights. A loose file has no manifest, so what the
    catalogue knows of it stands for one.
    """
    if card.digest is not None:
        return card.digest.removeprefix("sha256:")
    manifest = [
        card.path, card.size_bytes, card.modified, card.architecture, card.parameter_count,
        card.quantization, card.context_length,
    ]  # fmt: skip
    return hashlib.sha256(encode_json(manifest)).hexdigest()


def modified(card: ModelCard) -> str:
    return rfc3339(int(card.modified * 10**6) * 1000)


def capabilities(able: Collection[str]) -> list[str]:
    return [word for word in CAPABILITIES if word in able]
