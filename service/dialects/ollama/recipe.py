"""POST /api/create: JSON → Recipe. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from service.catalog import names
from service.catalog.card import Said
from service.catalog.names import DIGEST, Name
from service.dialects.fields import Fields, kind
from service.errors import InvalidRequest
from service.store.making import QUANTIZATIONS, Recipe

MAX_FILES: Final = 64
MAX_MESSAGES: Final = 1024
MAX_TEXT: Final = 1024 * 1024
ROLES: Final = ("system", "user", "assistant", "tool")
_QUANTIZATIONS: Final = {name.lower(): name for name in QUANTIZATIONS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recipe whose base is still a name, "" for none."""

    base: str
    recipe: Recipe


def word_of(fields: Fields) -> str:
    """`name` is what the field was called before."""
    return fields.text("model") or fields.text("name") or ""


def parse_name(text: str, sentence: str = "invalid model name") -> Name:
    """Raises InvalidRequest. The one way from a client's word to a path of the store."""
    name = names.parse(text)
    if not name.valid or name.scheme not in ("", "http", "https"):
        raise InvalidRequest(sentence, param="model")
    return name


def parse_create(fields: Fields, name: Name) -> Wanted:
    base = fields.text("from") or ""
    files, adapters = parse_files(fields, "files"), parse_files(fields, "adapters")
    if not base and not files:
        raise InvalidRequest("neither 'from' or 'files' was specified", param="from")
    if base and files:
        raise InvalidRequest("'from' and 'files' cannot be used together", param="files")
    quantize = fields.text("quantize") or fields.text("quantization")
    recipe = Recipe(
        name,
        files=files,
        adapters=adapters,
        template=fields.text("template", longest=MAX_TEXT),
        system=fields.text("system", longest=MAX_TEXT),
        parameters=parse_parameters(fields),
        messages=parse_messages(fields),
        licenses=fields.strings("license", most=MAX_FILES, longest=MAX_TEXT),
        renderer=fields.text("renderer", longest=80) or None,
        parser=fields.text("parser", longest=80) or None,
        quantize=parse_quantization(fields, quantize) if quantize else None,
    )
    return Wanted(base, recipe)


def parse_files(fields: Fields, key: str) -> dict[str, str]:
    """Digests by file name; the name only tells a client which one is meant."""
    given = fields.object(key)
    if given is None:
        return {}
    if len(given.whole()) > MAX_FILES:
        raise fields.bad(key, f"must not have more than {MAX_FILES} files")
    for file, digest in given.values.items():
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise InvalidRequest(f"invalid digest format of {file[:80]!r}", param=key)
        if file.lower().endswith((".safetensors", ".bin", ".pt", ".pth")):
            raise InvalidRequest(
                f"{file[:80]!r} is no GGUF file, and this server converts none", param=key
            )
    return dict(given.values)


def parse_parameters(fields: Fields) -> dict[str, Any]:
    given = fields.object("parameters")
    if given is None:
        return {}
    for key, value in given.whole().items():
        scalars = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | bool) for each in scalars):
            raise given.bad(key, f"must be a value or a list of values, not {kind(value)}")
    return dict(given.values)


def parse_messages(fields: Fields) -> tuple[Said, ...] | None:
    if fields.list("messages", longest=MAX_MESSAGES) is None:
        return None
    said = []
    for message in fields.objects("messages"):
        role = message.choice("role", ROLES)
        if role is None:
            raise message.bad("role", f"must be one of {', '.join(ROLES)}")
        said.append(Said(role, message.text("content", longest=MAX_TEXT) or ""))
    return tuple(said)


def parse_quantization(fields: Fields, word: str) -> str:
    name = _QUANTIZATIONS.get(word.lower())
    if name is None:
        raise InvalidRequest(
            f"unsupported quantization type {word[:32]!r}: this server has "
            f"{', '.join(QUANTIZATIONS)}",
            param="quantize",
        )
    return name
