"""POST /api/show: all that a model's files say of it. Pure, but for the reading of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.catalog.card import ModelCard
from service.catalog.confined import beginning
from service.catalog.gguf import read_header
from service.catalog.gguf_header import TO_SHOW, TO_SHOW_ALL, Header, Omitted
from service.dialects.framing import encode_json
from service.dialects.ollama.listing import capabilities, details_of, modified, status_of
from service.text.template import CHATML

# Longer arrays are left empty, unless all is wanted: vocabularies have 100 000 entries.
SHORT: Final = 5
# Ollama shows these elsewhere, or not at all.
LEFT_OUT: Final = frozenset({"general.name", "tokenizer.chat_template"})
NO_GGUF: Final = frozenset({"safetensors", "cloud"})
# Some models have several, of 10 to 60 KiB each.
MAX_LICENSE: Final = 1024 * 1024
# What the parser of Modelfiles would take for something else.
NEEDS_QUOTES: Final = re.compile(r"^[\s\"]|\n|\s$")
# Its users know the name that they asked for, not the one inside the file.
COPILOT: Final = "GitHubCopilotChat/"


@dataclass(frozen=True, slots=True)
class Contents:
    """What is read of a model's files to show it: `headers` of its shards, none where it has no
    GGUF; its projector's; the texts of its licenses."""

    headers: tuple[Header, ...] = ()
    projector: Header | None = None
    licenses: tuple[str, ...] = ()


def read_contents(card: ModelCard, verbose: bool) -> Contents:
    """Blocks. Raises GgufError and OSError."""
    keeping = TO_SHOW_ALL if verbose else TO_SHOW
    paths = card.weights if verbose else (card.path,)
    if card.reason in NO_GGUF:
        paths = ()
    return Contents(
        tuple(read_header(path, keeping) for path in paths),
        read_header(card.projector, keeping) if card.projector else None,
        tuple(
            beginning(path, MAX_LICENSE).decode("utf-8", "replace").strip()
            for path in card.licenses
        ),
    )


def encode_show(
    card: ModelCard,
    contents: Contents,
    able: Collection[str],
    *,
    verbose: bool = False,
    system: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    header = contents.headers[0] if contents.headers else None
    license = "\n".join(contents.licenses) or (header and header.text("general.license")) or ""
    system = system or card.system or ""
    template = card.chat_template
    if card.template_guessed and "completion" in able:
        # What such a model is prompted with here.
        template = CHATML
    optional = {
        "license": license,
        # What the model is sampled with here, where a request does not say.
        "parameters": parameters(card.sampling | card.parameters),
        "template": template,
        "template_source": template and ("guessed" if card.template_guessed else "gguf"),
        "system": system,
        "renderer": card.renderer,
        "parser": card.parser,
        "requires": card.requires,
        "messages": [{"role": said.role, "content": said.content} for said in card.messages],
        "projector_info": contents.projector and shown(contents.projector, verbose),
    }
    options = card.parameters | dict(options or {})
    body: dict[str, Any] = {"modelfile": modelfile(card, system, options, license)}
    body |= {key: value for key, value in optional.items() if value}
    body |= {
        "details": details_of(card),
        "model_info": model_info(card, header, verbose) if header else {},
        "capabilities": capabilities(able),
        "modified_at": modified(card),
        **status_of(card),
    }
    if verbose:
        body["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": tensor.shape}
            for each in contents.headers
            for tensor in each.tensors
        ]
    return body


def shown(header: Header, verbose: bool) -> dict[str, Any]:
    """The keys of a header. Long lists are left empty, unless all is wanted."""
    info: dict[str, Any] = {}
    for key, value in header.metadata.items():
        long = isinstance(value, list) and len(value) > SHORT and not verbose
        if key not in LEFT_OUT:
            info[key] = [] if long or isinstance(value, Omitted) else value
    return info


def model_info(card: ModelCard, header: Header, verbose: bool) -> dict[str, Any]:
    info = shown(header, verbose)
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


def parameters(values: Mapping[str, Any]) -> str:
    """A line for each value, as `ollama show` aligns them."""
    return "\n".join(
        f"{key:<30} {encode_json(each).decode()}"
        for key, value in values.items()
        for each in (value if isinstance(value, list) else [value])
    )


def modelfile(card: ModelCard, system: str, options: Mapping[str, Any], license: str) -> str:
    """What would describe the model to `ollama create`, whose templates are Go's; its file's path
    is nobody's business."""
    lines = [f"# Modelfile of {card.name}", f"FROM {card.name}"]
    if card.go_template:
        lines.append(f"TEMPLATE {quoted(card.go_template)}")
    if system:
        lines.append(f"SYSTEM {quoted(system)}")
    words = {"RENDERER": card.renderer, "PARSER": card.parser, "REQUIRES": card.requires}
    lines += [f"{word} {value}" for word, value in words.items() if value]
    for key, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            text = each if isinstance(each, str) else encode_json(each).decode()
            lines.append(f"PARAMETER {key} {quoted(text) if NEEDS_QUOTES.search(text) else text}")
    lines += [f"MESSAGE {said.role} {quoted(said.content)}" for said in card.messages]
    if license:
        lines.append(f"LICENSE {quoted(license)}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    return f'"""{text}"""'
