from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.catalog.catalog import Catalog
from service.catalog.demo import Demo
from service.catalog.index import Index
from tests.catalog.gguf_files import TENSORS, gguf, write
from tests.catalog.stores import PROJECTOR, Hub, Store, weights


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def catalog(store: Store) -> Catalog:
    made = Catalog([store.root], Demo(Path("/x/y")), Index(store.root.parent / "index.json"))
    made.refresh()
    return made


def spoil(path: Path) -> None:
    """Zeros for weights that were not, with the size as it was."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\1")


@pytest.mark.parametrize("kind", ["model", "projector"])
def test_a_blob_that_is_not_what_its_name_says_is_found(store: Store, kind: str) -> None:
    layers = {
        "model": store.layer("model", weights()),
        "projector": store.layer("projector", gguf(PROJECTOR, TENSORS)),
    }
    store.model("registry.ollama.ai/library/bad/latest", *layers.values())
    store.model("registry.ollama.ai/library/good/latest", store.layer("model", weights(5)))
    digest = layers[kind]["digest"].removeprefix("sha256:")
    spoil(store.blob_path(layers[kind]["digest"]))
    found = catalog(store)
    problem = found.verify(found.resolve("bad"))

    assert problem is not None
    assert (problem.reason, problem.text) == ("corrupt", f"sha256 mismatch {digest}")
    assert found.verify(found.resolve("good")) is None
    assert {card.name: card.reason for card in found.cards()} == {
        "good:latest": None,
        "bad:latest": "corrupt",
    }
    assert f"sha256 mismatch {digest}" in (found.resolve("bad").problem or "")


def test_either_verdict_is_remembered_until_the_file_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (store.layer("model", weights(seed)) for seed in (1, 2))
    store.model("registry.ollama.ai/library/good/latest", good)
    store.model("registry.ollama.ai/library/bad/latest", bad)
    whole = store.blob_path(bad["digest"]).read_bytes()
    spoil(store.blob_path(bad["digest"]))
    found = catalog(store)
    for name in ("good", "bad"):
        found.verify(found.resolve(name))

    with monkeypatch.context() as patched:
        patched.delattr("service.catalog.verify.hashlib")
        again = catalog(store)
        assert again.verify(again.resolve("good")) is None
        assert again.resolve("bad").reason == "corrupt"
    store.blob_path(bad["digest"]).write_bytes(whole)
    again.refresh()
    assert again.resolve("bad").reason is None
    assert again.verify(again.resolve("bad")) is None


def test_a_verification_that_is_stopped_decides_nothing(store: Store) -> None:
    layer = store.layer("model", weights())
    store.model("registry.ollama.ai/library/a/latest", layer)
    spoil(store.blob_path(layer["digest"]))
    found = catalog(store)

    assert found.verify(found.resolve("a"), lambda: True) is None
    assert found.verify(found.resolve("a")) is not None


def test_files_whose_names_tell_no_digest_are_taken_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "loose/a.gguf")
    link = Hub(tmp_path / "hub").file("me/b", "b-Q8_0.gguf", weights())
    found = Catalog([tmp_path / "loose", tmp_path / "hub"], Demo(Path("/x/y")))
    found.refresh()

    assert found.verify(found.resolve("a")) is None
    spoil(Path(os.path.realpath(link)))
    found.refresh()
    assert found.verify(found.resolve("hf.co/me/b:Q8_0")) is not None
