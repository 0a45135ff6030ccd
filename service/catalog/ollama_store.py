"""The models of an Ollama store, which is only ever read.

    manifests/<host>/<namespace>/<model>/<tag>   JSON; as many levels, whatever the host
    blobs/sha256-<64 digits>                     what manifests name; `sha256:` in old stores

The layout is Ollama's own affair and may change: what is unknown is a warning, not an error. A
manifest that is damaged is a card that says how, and takes nothing from the others.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat as modes
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from service.catalog import manifest as json
from service.catalog.architectures import Architectures
from service.catalog.card import ModelCard, Problem, Said
from service.catalog.confined import beginning, within
from service.catalog.directory import sight
from service.catalog.index import File, Identity, Index, identity_of
from service.catalog.manifest import Config, Damaged, Layer, Manifest
from service.catalog.names import Name, from_path
from service.catalog.shards import alone, card_of, fit

logger = logging.getLogger(__name__)

LEVELS: Final = 4
MAX_MANIFESTS: Final = 10_000
# A model for MLX has a layer for each tensor: thousands, of some 250 bytes each.
MAX_MANIFEST: Final = 4 * 1024 * 1024
MAX_TEXT: Final = 1024 * 1024
# While a manifest is this new, it may be half-written, or written again within a tick of its clock.
FRESH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A manifest with what it says in text, and how its digest was found."""

    manifest: Manifest
    digest: str
    config: Config
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: tuple[Said, ...] = ()


class OllamaStore:
    """`allowed`: where links may lead beside the store itself."""

    def __init__(
        self,
        root: Path,
        index: Index | None = None,
        architectures: Architectures | None = None,
        allowed: Sequence[str] = (),
    ) -> None:
        self.root = root.absolute()
        self._index = index or Index()
        self._architectures = architectures or Architectures()
        # Either half may lie on a disk of its own.
        own = (self.root, self.root / "manifests", self.root / "blobs")
        self._allowed = (*map(os.path.realpath, own), *allowed)
        self._parsed: dict[str, tuple[Identity, _Parsed]] = {}
        self._cards: dict[str, ModelCard] = {}
        self._unknown: set[str] = set()
        # Of this scan: models share blobs, and a blob is come to more than once.
        self._sound: dict[Layer, str] = {}

    def scan(self) -> list[ModelCard]:
        self._sound = {}
        found = islice(_entries(str(self.root / "manifests"), self._allowed), MAX_MANIFESTS)
        cards = {path: self._card(path, parts, problem) for path, parts, problem in found}
        present = {path: card for path, card in cards.items() if card is not None}
        self._parsed = {path: known for path, known in self._parsed.items() if path in cards}
        self._cards = {p: card for p, card in present.items() if card.problem is None}
        return list(present.values())

    def _card(self, path: str, parts: tuple[str, ...], problem: Problem | None) -> ModelCard | None:
        """None where the manifest is gone since its folder was listed."""
        name = from_path(parts)
        shown = name.shortest if name else fit("-".join(parts) or "manifests")
        modified = 0.0
        try:
            stat = os.stat(path)
            modified = stat.st_mtime
            if problem is None and name is not None:
                return self._described(name, path, stat)
            problem = problem or Problem("bad-name", "has a name that Ollama does not take")
        except FileNotFoundError:
            return None
        except OSError as error:
            problem = Problem("unreadable", f"its manifest cannot be read: {error.strerror}")
        except Damaged as damage:
            fresh = time.time() - modified < FRESH_SECONDS
            if damage.problem.reason == "bad-manifest" and fresh and path in self._cards:
                # Being written: what it was counts until it is whole, or stays as it is.
                return self._cards[path]
            problem = damage.problem
        return ModelCard(
            shown, path, 0, modified, "ollama", problem=problem.text, reason=problem.reason
        )

    def _described(self, name: Name, path: str, stat: os.stat_result) -> ModelCard:
        """Raises Damaged, and OSError for the manifest."""
        parsed = self._read(path, stat)
        manifest, config = parsed.manifest, parsed.config
        layers: dict[str, list[Layer]] = {}
        for layer in manifest.layers or ():
            layers.setdefault(layer.kind, []).append(layer)
        given: dict[str, Any] = {
            "size_bytes": sum(layer.size for layer in manifest.everything),
            "modified": stat.st_mtime,
            "digest": f"sha256:{parsed.digest}",
            "licenses": tuple(self._blob(layer) for layer in layers.get("license", ())),
            "go_template": parsed.template,
            "system": parsed.system,
            "parameters": parsed.parameters or {},
            "messages": parsed.messages,
            **_configured(config),
        }
        if problem := _unsuitable(config, layers):
            given |= {"problem": problem.text, "reason": problem.reason}
        if "model" not in layers:
            return ModelCard(name=name.shortest, path=path, source="ollama", **given)
        # As Ollama does, of several the last.
        model = layers["model"][-1]
        weights = self._gguf(model)
        extras = {kind: self._extras(kind, layers.get(kind, [])) for kind in _EXTRAS}
        return card_of(
            alone(weights),
            name.shortest,
            "ollama",
            self._architectures,
            parent=model.parent or None,
            adapters=tuple(str(file.path) for file in extras["adapter"]),
            draft=str(extras["draft"][-1].path) if extras["draft"] else None,
            **sight(extras["projector"][0] if extras["projector"] else None),
            **given,
        )

    def _extras(self, kind: str, layers: list[Layer]) -> list[File]:
        files = [self._gguf(layer) for layer in layers]
        for file in files:
            problem = file.gguf.problem
            if problem is not None and problem.reason != "not-a-model":
                raise Damaged(Problem(problem.reason, f"its {kind}: {problem.text}"))
        return files

    def _read(self, path: str, stat: os.stat_result) -> _Parsed:
        identity = identity_of(stat)
        known = self._parsed.get(path)
        if known is not None and known[0] == identity:
            for layer in known[1].manifest.everything:
                self._blob(layer)
            return known[1]
        data = _contents(path, MAX_MANIFEST, "its manifest")
        parsed = self._parse(data)
        if time.time() - stat.st_mtime > FRESH_SECONDS:
            self._parsed[path] = (identity, parsed)
        return parsed

    def _parse(self, data: bytes) -> _Parsed:
        manifest = json.read_manifest(data)
        digest = hashlib.sha256(data).hexdigest()
        texts: dict[str, bytes] = {}
        for layer in manifest.layers or ():
            if layer.kind in json.TEXTS and layer.kind != "license":
                texts[layer.kind] = self._text(layer)
            elif layer.kind not in _KNOWN and layer.media_type not in self._unknown:
                self._unknown.add(layer.media_type)
                logger.warning("layers of type %r in %s are left alone", layer.kind, self.root)
        for layer in manifest.everything:
            self._blob(layer)
        config = manifest.config
        return _Parsed(
            manifest,
            digest,
            json.read_config(self._text(config)) if config and config.digest else Config(),
            _decoded(texts.get("template")),
            _decoded(texts.get("system")),
            json.read_parameters(texts["params"]) if "params" in texts else None,
            json.read_messages(texts["messages"]) if "messages" in texts else (),
        )

    def _blob(self, layer: Layer) -> str:
        """The path of what a layer names, which has the size that it says. Raises Damaged."""
        if layer not in self._sound:
            self._sound[layer] = self._checked(layer)
        return self._sound[layer]

    def _checked(self, layer: Layer) -> str:
        path = self._place(layer)
        try:
            real = os.path.realpath(path, strict=True)
            stat = os.stat(real)
        except FileNotFoundError:
            raise _missing(layer) from None
        except OSError as error:
            raise _unreadable(layer, error.strerror or "") from None
        if not within(real, self._allowed):
            text = f"its {layer.kind} is a link that leads out of the directories that are served"
            raise Damaged(Problem("outside", text))
        if not modes.S_ISREG(stat.st_mode):
            raise _unreadable(layer, "it is not a file")
        if stat.st_size != layer.size:
            text = f"its {layer.kind} has {stat.st_size} bytes, and should have {layer.size}"
            raise Damaged(Problem("corrupt", text))
        return path

    def _place(self, layer: Layer) -> str:
        digest = layer.digest.replace(":", "-")
        path = f"{self.root}/blobs/{digest}"
        old = f"{self.root}/blobs/{digest.replace('-', ':')}"
        return path if os.path.lexists(path) or not os.path.lexists(old) else old

    def _gguf(self, layer: Layer) -> File:
        file = self._index.look(Path(self._blob(layer)), self._allowed)
        if file is None:
            raise _missing(layer)
        return file

    def _text(self, layer: Layer) -> bytes:
        path = self._blob(layer)
        try:
            return _contents(path, MAX_TEXT, f"its {layer.kind}")
        except OSError as error:
            raise _unreadable(layer, error.strerror or "") from None


def _unsuitable(config: Config, layers: Mapping[str, list[Layer]]) -> Problem | None:
    if config.remote_host or config.remote_model:
        return Problem("cloud", f"runs at {config.remote_host or 'another host'}, not here")
    if "model" not in layers:
        if "tensor" in layers:
            return Problem("safetensors", "is made of safetensors, and has no GGUF")
        return Problem("no-weights", "has no layer with weights")
    return None


_EXTRAS: Final = ("projector", "adapter", "draft")
_KNOWN: Final = json.TEXTS | json.WEIGHTS | json.OTHERS


def _configured(config: Config) -> dict[str, Any]:
    """What a manifest's configuration knows better than the file, or alone."""
    given: dict[str, Any] = {
        "family": config.model_family or None,
        "families": config.model_families or (),
        "parameter_size": config.model_type or None,
        "requires": config.requires or None,
        "remote": "/".join(filter(None, (config.remote_host, config.remote_model))) or None,
        "renderer": config.renderer or None,
        "parser": config.parser or None,
    }
    if config.file_type and config.file_type.lower() != "unknown":
        given["quantization"] = config.file_type
    if config.remote_host or config.remote_model:
        given["context_length"] = config.context_length or None
        given["embedding_length"] = config.embedding_length or None
    return given


def _entries(
    manifests: str, allowed: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...], Problem | None]]:
    """(path, its parts, what is wrong with it) of everything that lies as deep as manifests do."""

    def below(
        folder: str, parts: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...], Problem | None]]:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            yield folder, parts, Problem("unreadable", f"cannot be listed: {error.strerror}")
            return
        for entry in entries:
            here = (*parts, entry.name)
            if entry.is_symlink() and not within(os.path.realpath(entry.path), allowed):
                yield entry.path, here, _OUTSIDE
            elif entry.is_dir():
                if len(here) == LEVELS:
                    yield entry.path, here, _FOLDER
                else:
                    yield from below(entry.path, here)
            elif len(here) == LEVELS:
                yield entry.path, here, None

    yield from below(manifests, ())


_OUTSIDE: Final = Problem("outside", "is a link that leads out of the directories that are served")
_FOLDER: Final = Problem("bad-manifest", "has a folder where its manifest should be")


def _contents(path: str, most: int, what: str) -> bytes:
    """Raises Damaged for what is too long, OSError."""
    data = beginning(path, most + 1)
    if len(data) > most:
        raise Damaged(
            Problem("bad-manifest", f"{what} has more than the {most} bytes that are read")
        )
    return data


def _decoded(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _missing(layer: Layer) -> Damaged:
    return Damaged(Problem("missing-blob", f"its {layer.kind} {layer.digest[:19]} is missing"))


def _unreadable(layer: Layer, why: str) -> Damaged:
    return Damaged(Problem("unreadable", f"its {layer.kind} cannot be read: {why}"))
