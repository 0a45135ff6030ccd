"""Builds Ollama stores and HuggingFace caches, whole or damaged in one place each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.catalog.gguf_files import METADATA, TENSORS, gguf

KIND = "application/vnd.ollama.image."
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
PROJECTOR: Mapping[str, Any] = {
    "general.architecture": "clip",
    "clip.has_vision_encoder": True,
    "clip.projector_type": "mlp",
}
GO_TEMPLATE = "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}"


def weights(seed: int = 0, **changes: Any) -> bytes:
    """A GGUF file that differs from others by its seed."""
    metadata = {**METADATA, "general.version": f"v{seed}", **changes.pop("metadata", {})}
    return gguf(metadata, **changes)


@dataclass
class Listed:
    """What Ollama would say of a model in /api/tags."""

    name: str
    size: int
    digest: str


@dataclass
class Store:
    root: Path
    old_names: bool = False
    listed: list[Listed] = field(default_factory=list)

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = self.blob_path(f"sha256:{digest}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def blob_path(self, digest: str) -> Path:
        return self.root / "blobs" / (digest if self.old_names else digest.replace(":", "-"))

    def layer(self, kind: str, data: bytes | str | Any, **more: Any) -> dict[str, Any]:
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes):
            data = json.dumps(data).encode()
        return {"mediaType": KIND + kind, **self.blob(data), **more}

    def manifest(self, path: str, document: Any) -> Path:
        """`document`: bytes are written as they are."""
        place = self.root / "manifests" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        data = document if isinstance(document, bytes) else json.dumps(document).encode() + b"\n"
        place.write_bytes(data)
        return place

    def model(
        self,
        path: str,
        *layers: dict[str, Any],
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Path:
        """A model of the name's path; `name` is what it is listed as."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": DOCKER,
            "layers": list(layers) or [self.layer("model", weights(len(self.listed)))],
        }
        if config is not None:
            document["config"] = {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                **self.blob(json.dumps(config).encode()),
            }
        place = self.manifest(path, document)
        everything = [*document["layers"], *([document["config"]] if config is not None else [])]
        if name:
            size = sum(layer["size"] for layer in everything)
            digest = hashlib.sha256(place.read_bytes()).hexdigest()
            self.listed.append(Listed(name, size, digest))
        return place


CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "model_type": "8.0B",
    "file_type": "Q4_K_M",
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": []},
}

# The four levels of a manifest, and what Ollama lists it as.
PLACES: tuple[tuple[str, str], ...] = (
    ("registry.ollama.ai/library/model{0}/8b", "model{0}:8b"),
    ("registry.ollama.ai/someone/model{0}/latest", "someone/model{0}:latest"),
    ("hf.co/user/Model{0}-GGUF/Q4_K_M", "hf.co/user/Model{0}-GGUF:Q4_K_M"),
    ("registry.example:5000/team/model{0}/v1.{0}", "registry.example:5000/team/model{0}:v1.{0}"),
)


def populate(store: Store, count: int = 52, weigh: Callable[[int], bytes] = weights) -> None:
    """`count` models over all places and kinds of layers, the last three of them with weights of
    others."""
    for number in range(count):
        path, name = (text.format(number) for text in PLACES[number % len(PLACES)])
        seed = number % 3 if number >= count - 3 else number
        layers = [store.layer("model", weigh(seed), **({"from": "parent:1b"} if seed == 7 else {}))]
        extra = number // len(PLACES)
        if extra % 2:
            layers.append(store.layer("template", GO_TEMPLATE))
        if extra % 3 == 1:
            layers.append(store.layer("system", f"You are model {number}."))
            layers.append(store.layer("params", {"stop": ["<a>", "<b>"], "temperature": 0.5}))
        if extra % 4 == 2:
            layers.append(store.layer("messages", [{"role": "user", "content": "Hello"}]))
        if extra % 5 == 3:
            layers.append(store.layer("projector", gguf(PROJECTOR, TENSORS)))
        if extra % 2 == 0:
            layers += [store.layer("license", "MIT"), store.layer("license", "Terms of use")]
        store.model(path, *layers, config=CONFIG, name=name)


def damage(store: Store, outside: Path) -> dict[str, str]:
    """Twenty-two entries with something wrong with each: the name of each, and its reason."""
    path = "registry.ollama.ai/library/bad/{}"
    whole = {"schemaVersion": 2, "layers": [store.layer("model", weights(1000))]}
    text = json.dumps(whole).encode()
    absent = "sha256:" + "ab" * 32

    def put(tag: str, document: Any) -> Path:
        return store.manifest(path.format(tag), document)

    put("empty", b"")
    put("half", text[: len(text) // 2])
    put("list", [1, 2])
    put("text-layers", {"layers": "none"})
    put("number-digest", {"layers": [{"mediaType": KIND + "model", "digest": 7, "size": 1}]})
    put("negative-size", {"layers": [{"mediaType": KIND + "model", "digest": absent, "size": -1}]})
    put("climbing", {"layers": [{"mediaType": KIND + "model", "digest": "sha256-../../../etc"}]})
    put("bom", b"\xef\xbb\xbf" + text)
    put("huge", b" " * 50_000_000)
    put("deep", b'{"layers":' + b"[" * 100_000)
    put("absent", {"layers": [{"mediaType": KIND + "model", "digest": absent, "size": 5}]})

    short = store.layer("model", weights(1001))
    put("short", {"layers": [{**short, "size": short["size"] + 1}]})
    cut = store.layer("model", weights(1002, cut=9))
    put("cut", {"layers": [cut]})
    put("zeros", {"layers": [store.layer("model", bytes(4096))]})
    put("no-model", {"layers": [store.layer("license", "MIT")]})
    put("odd-params", {"layers": [*whole["layers"], store.layer("params", [1])]})  # type: ignore[misc]
    put("odd-config", {**whole, "config": store.layer("config", b"no JSON")})
    put("odd-projector", {"layers": [*whole["layers"], store.layer("projector", b"GGUF")]})  # type: ignore[misc]

    folder = store.layer("model", weights(1003))
    store.blob_path(folder["digest"]).unlink()
    store.blob_path(folder["digest"]).mkdir()
    put("folder-blob", {"layers": [folder]})

    linked = store.layer("model", weights(1004))
    outside.mkdir(parents=True, exist_ok=True)
    os.replace(store.blob_path(linked["digest"]), outside / "secret.gguf")
    store.blob_path(linked["digest"]).symlink_to(outside / "secret.gguf")
    put("blob-out", {"layers": [linked]})

    (outside / "manifest").write_bytes(text)
    put("manifest-out", b"").unlink()
    (store.root / "manifests" / path.format("manifest-out")).symlink_to(outside / "manifest")
    (store.root / "manifests" / path.format("folder")).mkdir()
    return {
        "bad:empty": "bad-manifest",
        "bad:half": "bad-manifest",
        "bad:list": "bad-manifest",
        "bad:text-layers": "bad-manifest",
        "bad:number-digest": "bad-manifest",
        "bad:negative-size": "bad-manifest",
        "bad:climbing": "bad-manifest",
        "bad:bom": "bad-manifest",
        "bad:huge": "bad-manifest",
        "bad:deep": "bad-manifest",
        "bad:absent": "missing-blob",
        "bad:short": "corrupt",
        "bad:cut": "corrupt",
        "bad:zeros": "corrupt",
        "bad:no-model": "no-weights",
        "bad:odd-params": "bad-manifest",
        "bad:odd-config": "bad-manifest",
        "bad:odd-projector": "corrupt",
        "bad:folder-blob": "unreadable",
        "bad:blob-out": "outside",
        "bad:manifest-out": "outside",
        "bad:folder": "bad-manifest",
    }


@dataclass
class Hub:
    """`models--ORG--NAME/{blobs,refs,snapshots}` as huggingface_hub and llama.cpp leave them."""

    root: Path

    def file(
        self,
        repository: str,
        name: str,
        data: bytes,
        revision: str = "a" * 40,
        *,
        main: bool = True,
    ) -> Path:
        home = self.root / ("models--" + repository.replace("/", "--"))
        blob = home / "blobs" / hashlib.sha256(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = home / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        if main:
            (home / "refs").mkdir(exist_ok=True)
            (home / "refs/main").write_text(revision)
        return link
