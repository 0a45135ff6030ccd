"""POST /api/show: all that a model's file says of itself. Pure, apart from reading the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from service.catalog.card import ModelCard
from service.catalog.gguf import Header, Omitted
from service.dialects.framing import encode_json
from service.dialects.ollama_listing import capabilities, details_of, modified
from service.text.template import CHATML

# Longer arrays are left empty, unless all is wanted: vocabularies have 100 000 entries.
SHORT: Final = 5
# Ollama shows these elsewhere, or not at all.
LEFT_OUT: Final = frozenset({"general.name", "tokenizer.chat_template"})
# Its users know the name that they asked for, not the one inside the file.
COPILOT: Final = "GitHubCopilotChat/"


def encode_show(
    card: ModelCard,
    header: Header,
    able: Collection[str],
    *,
    verbose: bool = False,
    system: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    template = card.chat_template or header.text("tokenizer.chat_template")
    if template is None and "completion" in able:
        # What such a model is prompted with here.
        template = CHATML
    license = header.text("general.license")
    body: dict[str, Any] = {"modelfile": modelfile(card, template, system, options or {}, license)}
    optional = {"license": license, "template": template, "system": system}
    body |= {key: text for key, text in optional.items() if text}
    body |= {
        "details": details_of(card),
        "model_info": model_info(card, header, verbose),
        "capabilities": capabilities(able),
        "modified_at": modified(card),
    }
    if verbose:
        body["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": tensor.shape}
            for tensor in header.tensors
        ]
    return body


def model_info(card: ModelCard, header: Header, verbose: bool) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for key, value in header.metadata.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, Omitted) or (
            isinstance(value, list) and len(value) > SHORT and not verbose
        ):
            info[key] = []
        else:
            info[key] = value
    if card.parameter_count is not None:
        info.setdefault("general.parameter_count", card.parameter_count)
    if (size := vocabulary(header)) is not None:
        info.setdefault(f"{header.architecture}.vocab_size", size)
    return info


def vocabulary(header: Header) -> int | None:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Omitted):
        return tokens.length
    return len(tokens) if isinstance(tokens, list) else None


def modelfile(
    card: ModelCard,
    template: str | None,
    system: str,
    options: Mapping[str, Any],
    license: str | None,
) -> str:
    """What would describe the model to `ollama create`; its file's path is nobody's business."""
    lines = [f"# Modelfile of {card.name}", f"FROM {card.name}"]
    if template:
        lines.append(f"TEMPLATE {quoted(template)}")
    if system:
        lines.append(f"SYSTEM {quoted(system)}")
    for key, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            text = each if isinstance(each, str) else encode_json(each).decode()
            lines.append(f"PARAMETER {key} {text}")
    if license:
        lines.append(f"LICENSE {quoted(license)}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    return f'"""{text}"""'
