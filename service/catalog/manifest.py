"""The JSON of an Ollama store: manifests, and the configuration of a model. Pure.

    {"schemaVersion": 2, "config": LAYER, "layers": [LAYER…]}
    LAYER: {"mediaType", "digest", "size", "from"?, "name"?}

A manifest is written in place, so a reader may meet an empty file or half of one.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from service.catalog.card import Problem, Said
from service.catalog.names import DIGEST

T = TypeVar("T")

_KIND: Final = "application/vnd.ollama.image."
# Go's template in stores of before 2024.
_KINDS: Final = {"prompt": "template"}
# What is read of a layer, beside the files that a load reads.
TEXTS: Final = frozenset({"template", "system", "params", "messages", "license"})
WEIGHTS: Final = frozenset({"model", "projector", "adapter", "draft"})
# Of models for MLX, without any GGUF; and what is deprecated.
OTHERS: Final = frozenset({"tensor", "json", "embed", "config"})


class Layer(Struct, frozen=True):
    digest: str = ""
    size: Annotated[int, Meta(ge=0)] = 0
    media_type: str = field(default="", name="mediaType")
    parent: str | None = field(default=None, name="from")

    @property
    def kind(self) -> str:
        """model, template, …; the whole media type where it is none of Ollama's."""
        kind = self.media_type.partition(";")[0].removeprefix(_KIND)
        return _KINDS.get(kind, kind)


class Manifest(Struct, frozen=True):
    layers: tuple[Layer, ...] | None = None
    config: Layer | None = None

    @property
    def everything(self) -> tuple[Layer, ...]:
        """All that lies in `blobs`; a configuration without a digest does not."""
        config = (self.config,) if self.config is not None and self.config.digest else ()
        return (*(self.layers or ()), *config)


class Config(Struct, frozen=True):
    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    context_length: int = 0
    embedding_length: int = 0


class Damaged(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def read_manifest(data: bytes) -> Manifest:
    """Raises Damaged."""
    if not data.strip():
        raise _bad("its manifest is empty")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _bad("its manifest begins with a byte order mark")
    manifest = _decode(data, Manifest, "manifest")
    for layer in manifest.everything:
        if not DIGEST.fullmatch(layer.digest):
            raise _bad(f"its manifest names a blob {layer.digest[:80]!r}, which is no digest")
    return manifest


def read_config(data: bytes) -> Config:
    return _decode(data, Config, "configuration")


def read_parameters(data: bytes) -> dict[str, Any]:
    parameters = _decode(data, dict[str, Any], "parameters")
    for key, value in parameters.items():
        scalars = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | bool) for each in scalars):
            raise _bad(f"its parameter {key[:80]!r} is neither a value nor a list of values")
    return parameters


def read_messages(data: bytes) -> tuple[Said, ...]:
    return _decode(data, tuple[Said, ...], "messages")


def _decode(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _bad(f"its {what} is not one: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"its {what} is not JSON: {error}") from None


def _bad(text: str) -> Damaged:
    return Damaged(Problem("bad-manifest", text))
