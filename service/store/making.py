"""A model made of what is here: of another model, or of GGUF files that a client has sent.

What it is made of stays as it is. Files that other programs keep are copied, not linked: a link
would let them change what lies here under its digest. On file systems that share blocks between
copies (btrfs, XFS) that costs no room.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from service.catalog.adapters import misfit
from service.catalog.card import ModelCard, Said, human
from service.catalog.gguf_file import GgufFile, describe
from service.catalog.manifest import Damaged, Layer, Manifest, read_parameters
from service.catalog.names import Name, digest_in
from service.errors import InvalidRequest
from service.store.blobs import CHUNK, Incoming
from service.store.own_store import OwnStore, plain
from service.store.registry import MANIFEST
from service.store.threads import in_thread
from service.store.transfers import Step, Tell

KIND: Final = "application/vnd.ollama.image."
CONFIG: Final = "application/vnd.docker.container.image.v1+json"
# What llama.cpp makes of whole weights without further data, as its own tool names them.
QUANTIZATIONS: Final = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S",
    "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
)  # fmt: skip
WHOLE: Final = frozenset({"F32", "F16", "BF16"})

# llama.cpp's quantization of one file into another; it raises ServiceError.
Quantize = Callable[[Path, Path, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """`base`, or `files` and `adapters` as digests by name. What is None stays as in the base;
    `parameters` are added to its own, and so is `licenses`."""

    name: Name
    base: ModelCard | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Said, ...] | None = None
    licenses: tuple[str, ...] = ()
    renderer: str | None = None
    parser: str | None = None
    quantize: str | None = None


class Making:
    """One model on its way into the store."""

    def __init__(self, store: OwnStore, recipe: Recipe, quantize: Quantize, tell: Tell) -> None:
        self._store = store
        self._recipe = recipe
        self._quantize = quantize
        self._tell = tell
        self._layers: list[Layer] = []
        self._gguf: GgufFile | None = None
        self._held = ExitStack()
        self._new: list[str] = []

    async def make(self) -> None:
        """Raises InvalidRequest for what cannot be made, and OSError of the disk."""
        try:
            with self._held:
                await self._make()
        finally:
            # Of what was not made, and of what was quantized.
            await in_thread(self._store.drop, self._new)

    async def _make(self) -> None:
        recipe = self._recipe
        if recipe.base is not None:
            await self._of_base(recipe.base)
        for kind, given in (("model", recipe.files), ("adapter", recipe.adapters)):
            for file, digest in given.items():
                await self._of_file(kind, file, digest)
        if self._gguf is None:
            raise InvalidRequest("no GGUF file of a model is among the files", param="files")
        for file, digest in recipe.adapters.items():
            if why := await in_thread(misfit, self._store.blob(digest), self._weights()):
                raise InvalidRequest(f"{file!r} does not fit the model: {why}", param="adapters")
        if recipe.quantize is not None:
            await self._quantized(recipe.quantize)
        await self._of_texts()
        config = await self._text(CONFIG, msgspec.json.encode(self._config(self._gguf)))
        manifest = Manifest(tuple(self._layers), config)
        self._tell(Step("writing manifest"))
        await in_thread(self._store.write, recipe.name, encode(manifest), manifest)

    async def _of_base(self, card: ModelCard) -> None:
        if card.shards:
            raise InvalidRequest(
                f"{card.name} is split into {len(card.shards)} files, and a store keeps whole ones",
                param="from",
            )
        files = [("model", card.path), ("projector", card.projector), ("draft", card.draft)]
        files += [("adapter", path) for path in card.adapters]
        files += [("license", path) for path in card.licenses]
        for kind, path in files:
            if path is not None:
                await self._adopt(KIND + kind, Path(path))
        self._gguf = await in_thread(describe, Path(card.path))

    async def _of_file(self, kind: str, file: str, digest: str) -> None:
        self._tell(Step("parsing GGUF"))
        path = self._store.blob(digest)
        self._hold(digest)
        if not self._store.has(digest):
            raise InvalidRequest(f"blob {plain(digest)} of {file!r} not found", param="files")
        gguf = await in_thread(describe, path)
        adapter = gguf.problem is not None and gguf.problem.text.endswith("adapter")
        if gguf.problem is not None and not adapter:
            raise InvalidRequest(f"{file!r} {gguf.problem.text}", param="files")
        if adapter is not (kind == "adapter"):
            wanted = "an adapter" if kind == "adapter" else "a model"
            raise InvalidRequest(f"{file!r} is not {wanted}", param="files")
        if (gguf.split_count or 1) > 1:
            text = f"{file!r} is one of {gguf.split_count} shards, and a store keeps whole files"
            raise InvalidRequest(text, param="files")
        if gguf.projector:
            kind = "projector"
        elif kind == "model":
            if self._gguf is not None:
                raise InvalidRequest(f"{file!r} is a second model", param="files")
            self._gguf = gguf
        await self._adopt(KIND + kind, path)

    def _weights(self) -> list[str]:
        return [str(self._store.blob(x.digest)) for x in self._layers if x.kind == "model"]

    async def _quantized(self, to: str) -> None:
        assert self._gguf is not None
        before = self._gguf.quantization or "unknown"
        if before.upper() not in WHOLE:
            raise InvalidRequest(
                f"quantization is only supported for F16, BF16 and F32 models, not {before}",
                param="quantize",
            )
        index = next(i for i, layer in enumerate(self._layers) if layer.kind == "model")
        model = self._layers[index]
        self._tell(Step(f"quantizing {before} model to {to}", model.digest, model.size))
        await in_thread(self._store.room_for, model.size)
        incoming = self._store.incoming()
        with incoming:
            # The child writes it, under the name that is already this one's to clean up.
            await self._quantize(self._store.blob(model.digest), incoming.path, to)
            await in_thread(incoming.take_stock)
            self._layers[index] = await self._keep(incoming, model.media_type)
        self._gguf = await in_thread(describe, self._store.blob(self._layers[index].digest))

    async def _of_texts(self) -> None:
        recipe, base = self._recipe, self._recipe.base
        template = recipe.template if recipe.template is not None else base and base.go_template
        system = recipe.system if recipe.system is not None else base and base.system
        parameters = {**(base.parameters if base else {}), **recipe.parameters}
        messages = recipe.messages if recipe.messages is not None else base and base.messages
        try:
            read_parameters(msgspec.json.encode(parameters))
        except Damaged as damage:
            raise InvalidRequest(str(damage), param="parameters") from None
        texts = {
            "template": template,
            "system": system,
            "params": parameters and msgspec.json.encode(parameters),
            "messages": messages and msgspec.json.encode(messages),
        }
        for kind, text in texts.items():
            if text:
                self._layers.append(await self._text(KIND + kind, text))
        for license in recipe.licenses:
            self._layers.append(await self._text(KIND + "license", license))

    def _config(self, gguf: GgufFile) -> dict[str, Any]:
        recipe, base = self._recipe, self._recipe.base
        family = gguf.architecture or ""
        config: dict[str, Any] = {
            "model_format": "gguf",
            "model_family": family,
            "model_families": [family],
            "model_type": human(gguf.parameter_count),
            "file_type": gguf.quantization or "unknown",
            "renderer": recipe.renderer or (base and base.renderer),
            "parser": recipe.parser or (base and base.parser),
            "requires": base and base.requires,
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self._layers]},
        }
        return {key: value for key, value in config.items() if value is not None}

    async def _adopt(self, media_type: str, path: Path) -> None:
        """A file as a layer: as it is where the store has its bytes, else a copy of it."""
        store = self._store
        known, size = await in_thread(identified, path)
        if known is not None:
            self._hold(known)
            if store.has(known, size):
                self._tell(Step(f"using existing layer {known}"))
                self._layers.append(Layer(known, size, media_type))
                return
        await in_thread(store.room_for, size)
        with store.incoming() as incoming:
            await in_thread(copy, path, incoming)
            self._layers.append(await self._keep(incoming, media_type, known))

    async def _text(self, media_type: str, text: str | bytes) -> Layer:
        with self._store.incoming() as incoming:
            incoming.write(text.encode() if isinstance(text, str) else text)
            return await self._keep(incoming, media_type)

    async def _keep(
        self, incoming: Incoming, media_type: str, expected: str | None = None
    ) -> Layer:
        layer = Layer(incoming.digest, incoming.size, media_type)
        self._hold(layer.digest)
        if self._store.has(layer.digest, layer.size):
            self._tell(Step(f"using existing layer {layer.digest}"))
            return layer
        await in_thread(incoming.keep, self._store.blobs, expected)
        self._new.append(layer.digest)
        self._tell(Step(f"creating new layer {layer.digest}"))
        return layer

    def _hold(self, digest: str) -> None:
        """Until the manifest is written, which then does."""
        self._held.enter_context(self._store.holding([digest]))


def identified(path: Path) -> tuple[str | None, int]:
    """The digest that a blob's name promises, and the size."""
    digits = digest_in(os.path.realpath(path))
    return (f"sha256:{digits}" if digits else None), path.stat().st_size


def copy(path: Path, incoming: Incoming) -> None:
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            incoming.write(piece)


def encode(manifest: Manifest) -> bytes:
    def encoded(layer: Layer) -> dict[str, Any]:
        return {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}

    assert manifest.config is not None
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": encoded(manifest.config),
        "layers": [encoded(layer) for layer in manifest.layers or ()],
    }
    return msgspec.json.encode(document)
