"""Models and the progress of requests, in the JSON that this service's own tools read. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from service.catalog.card import human
from service.dialects.ollama.listing import encode_tag, modified

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus, Progress

ENDED: Final = frozenset({"completed", "error", "cancelled"})
# (dialect, last part of the path) → what older tools call it; the dialect's name for the others.
FORMATS: Final = {
    ("ollama", "chat"): "ollama_chat",
    ("ollama", "generate"): "ollama_generate",
    ("ollama", "embed"): "ollama_embed",
    ("ollama", "embeddings"): "ollama_embed",
    ("vllm", "chat/completions"): "vllm_chat",
    ("vllm", "completions"): "vllm_completion",
}
NAMES: Final = {"tgi": "huggingface"}


def encode_model(status: ModelStatus, able: Collection[str]) -> dict[str, Any]:
    """All that Ollama says of it, and the names that this service had for the same."""
    card = status.card
    return encode_tag(card, able) | {
        "id": card.name,
        "parameter_size": human(card.parameter_count) if card.parameter_count else None,
        "quantization": card.quantization,
        "context_size": card.context_length,
        "created": modified(card),
        "loaded": status.facts is not None,
    }


def encode_progress(progress: Progress) -> dict[str, Any]:
    seconds = progress.updated - progress.started
    generated = progress.generated_tokens
    rate = generated / seconds if generated and seconds > 0 else None
    ended = progress.state in ENDED
    return {
        "request_id": progress.id,
        # Prompts are computed before the first token; older tools have no word for it.
        "status": "generating" if progress.state == "prefill" else progress.state,
        "progress": generated,
        "total": progress.max_tokens,
        "start_time": progress.started,
        "last_update": progress.updated,
        "model": progress.model,
        "error": progress.error,
        "prompt": {
            "total": progress.prompt_tokens,
            "cached": progress.cached_tokens,
            "processed": progress.processed_tokens,
        },
        "queue_position": progress.queue_position,
        "load_percent": None if progress.load_fraction is None else progress.load_fraction * 100,
        "tokens_per_second": rate,
        "eta_s": None if ended else remaining(generated, progress.max_tokens, rate),
        "api_format": api_format(progress.dialect, progress.endpoint),
    }


def remaining(generated: int, most: int | None, rate: float | None) -> float | None:
    """Seconds, if the answer becomes as long as it may."""
    if most is None or not rate:
        return None
    return max(0, most - generated) / rate


def api_format(dialect: str, endpoint: str) -> str:
    for (spoken, ending), name in FORMATS.items():
        if dialect == spoken and endpoint.endswith("/" + ending):
            return name
    return NAMES.get(dialect, dialect)
