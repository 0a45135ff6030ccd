"""What /api/chat and /api/generate have in common: JSON → Asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.dialects.fields import Fields, kind
from service.dialects.formats import TEXT, ollama_format
from service.dialects.ollama.durations import parse_keep_alive
from service.dialects.ollama.options import Options, parse_options
from service.dialects.sampling import NONE
from service.errors import InvalidRequest
from service.generation import ResponseFormat

MAX_MODEL: Final = 512
MAX_TOP: Final = 20
LEVELS: Final = ("low", "medium", "high", "max")

Think = bool | str | None


@dataclass(frozen=True)
class Asked:
    """`model` is the client's own word, which comes back in every answer.

    think: a level is a string; None where it was not said. keep_alive: see GenerationRequest.
    progress: how far the prompt is, is to be told in the stream.
    `ignored` names what has no effect.
    """

    model: str
    stream: bool
    options: Options
    format: ResponseFormat = TEXT
    keep_alive: float | None = None
    think: Think = None
    truncate: bool | None = None
    render_only: bool = False
    progress: bool = False
    ignored: tuple[str, ...] = ()


def parse_asked(fields: Fields, defaults: Mapping[str, Any] = NONE) -> Asked:
    logprobs, ignored = parse_logprobs(fields)
    if fields.claim("shift"):
        # An answer ends where its context does; nothing is shifted out to make room.
        ignored = [*ignored, "shift"]
    stream, progress = fields.flag("stream", True), fields.flag("return_progress")
    if progress and not stream:
        ignored = [*ignored, "return_progress"]
    options = parse_options(fields, **defaults, logprobs=logprobs)
    return Asked(
        model=parse_model(fields),
        stream=stream,
        options=options,
        format=ollama_format(fields, "format"),
        keep_alive=parse_keep_alive(fields),
        think=parse_think(fields),
        truncate=fields.claim("truncate"),
        render_only=fields.flag("_debug_render_only"),
        progress=progress,
        ignored=(*ignored, *options.ignored),
    )


def parse_model(fields: Fields, *older: str) -> str:
    """`older` are names that the field had before."""
    for key in ("model", *older):
        if name := fields.text(key):
            check_name(name)
            return name
    return ""


def check_name(name: str) -> None:
    """A name, or a path: no part between slashes and colons may be empty."""
    parts = name.removeprefix("/").replace(":", "/").split("/")
    if len(name) > MAX_MODEL or not name.isprintable() or not all(map(str.strip, parts)):
        raise InvalidRequest("invalid model name", param="model")


def parse_logprobs(fields: Fields) -> tuple[int | None, Sequence[str]]:
    """How many alternatives to show, None for no log-probabilities; and what has no effect."""
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs") or 0
    if not 0 <= top <= MAX_TOP:
        message = f"top_logprobs must be between 0 and {MAX_TOP}"
        raise InvalidRequest(message, param="top_logprobs")
    if wanted:
        return top, ()
    return None, ("top_logprobs",) if top else ()


def parse_think(fields: Fields) -> Think:
    value = fields.get("think")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in LEVELS:
        return value
    words = ", ".join(f'"{level}"' for level in LEVELS)
    if isinstance(value, str):
        raise fields.bad(
            "think", f'invalid think value: "{value[:32]}" (must be {words}, true, or false)'
        )
    raise fields.bad(
        "think", f"must be a boolean or string ({words}, true, or false), not {kind(value)}"
    )
