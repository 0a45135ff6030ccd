from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.catalog.catalog import Catalog
from service.catalog.demo import Demo
from service.catalog.roots import Root, obstacle, recognised, roots_of, usual
from tests.catalog.gguf_files import write
from tests.catalog.stores import Hub, Store, weights

HOME = Path("/home/someone")


def places(**environment: str) -> list[str]:
    return [str(root.path) for root in usual(environment, HOME)]


def test_the_usual_places_are_looked_into() -> None:
    assert places() == [
        "/home/someone/.ollama/models",
        "/usr/share/ollama/.ollama/models",
        "/var/lib/ollama/.ollama/models",
        "/home/someone/.cache/huggingface/hub",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("OLLAMA_MODELS", "/big/ollama", "/big/ollama"),
        ("OLLAMA_MODELS", ' "/big/ollama" ', "/big/ollama"),
        ("HF_HUB_CACHE", "/big/hub", "/big/hub"),
        ("HUGGINGFACE_HUB_CACHE", "/big/hub", "/big/hub"),
        ("HF_HOME", "/big/hf", "/big/hf/hub"),
        ("XDG_CACHE_HOME", "/big/cache", "/big/cache/huggingface/hub"),
    ],
)
def test_what_moves_them_is_heeded(variable: str, value: str, place: str) -> None:
    assert place in places(**{variable: value})


def test_what_is_named_goes_first_and_nothing_is_there_twice(tmp_path: Path) -> None:
    store = tmp_path / ".ollama/models"
    (store / "blobs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store)
    found = roots_of([tmp_path / "link"], discover=True, environment={}, home=tmp_path)

    assert found[0] == Root(tmp_path / "link")
    assert store not in [root.path for root in found]
    assert roots_of([], discover=False, environment={}, home=tmp_path) == []


def test_a_directory_is_recognised_by_what_is_in_it(tmp_path: Path) -> None:
    Store(tmp_path / ".ollama/models").model("registry.ollama.ai/library/a/b")
    Hub(tmp_path / "huggingface/hub").file("me/tiny", "tiny-Q8_0.gguf", weights())
    (tmp_path / "empty").mkdir()

    assert recognised(tmp_path / ".ollama/models")[1] == "ollama"
    assert recognised(tmp_path / ".ollama") == (tmp_path / ".ollama/models", "ollama")
    assert recognised(tmp_path / "huggingface/hub")[1] == "hub"
    assert recognised(tmp_path / "huggingface") == (tmp_path / "huggingface/hub", "hub")
    assert recognised(tmp_path / "empty") == (tmp_path / "empty", "directory")
    assert recognised(tmp_path / "nowhere") == (tmp_path / "nowhere", "directory")


def test_all_kinds_of_roots_make_one_catalog(tmp_path: Path) -> None:
    Store(tmp_path / "store").model("registry.ollama.ai/library/a/latest")
    Hub(tmp_path / "hub").file("me/tiny", "tiny-Q8_0.gguf", weights(1))
    write(tmp_path / "loose/b.gguf")
    found = Catalog(
        [tmp_path / name for name in ("store", "hub", "loose", "gone")], Demo(Path("/x/y"))
    )
    found.refresh()

    assert [card.name for card in found.cards()] == ["a:latest", "hf.co/me/tiny:Q8_0", "b:latest"]
    assert found.resolve("registry.ollama.ai/library/a").source == "ollama"
    assert found.resolve("HF.co/ME/tiny:q8_0").source == "hub"
    assert [(state.kind, state.models, state.problem) for state in found.roots()] == [
        ("ollama", 1, None),
        ("hub", 1, None),
        ("directory", 1, None),
        ("directory", 0, "there is no such directory"),
    ]


def test_a_directory_may_become_a_store_while_it_is_watched(tmp_path: Path) -> None:
    found = Catalog([tmp_path / "models"], Demo(Path("/x/y")))
    found.refresh()
    assert found.cards() == ()

    Store(tmp_path / "models").model("registry.ollama.ai/library/a/latest")
    found.refresh()
    assert [card.name for card in found.cards()] == ["a:latest"]


def test_links_may_lead_from_one_root_into_another(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    layer = store.layer("model", weights())
    store.model("registry.ollama.ai/library/a/latest", layer)
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose/linked.gguf").symlink_to(store.blob_path(layer["digest"]))
    found = Catalog([tmp_path / "loose", tmp_path / "store"], Demo(Path("/x/y")))
    found.refresh()

    assert {card.name: card.reason for card in found.cards()} == {
        "linked:latest": None,
        "a:latest": None,
    }
    alone = Catalog([tmp_path / "loose"], Demo(Path("/x/y")))
    alone.refresh()
    assert [card.reason for card in alone.cards()] == ["outside"]


def test_a_parent_that_cannot_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    locked = tmp_path / "home"
    store = Store(locked / ".ollama/models")
    store.model("registry.ollama.ai/library/a/latest")
    real = os.access

    def access(path: Path, mode: int) -> bool:
        # Root, which tests may run as, is denied nothing.
        return path != locked and real(path, mode)

    monkeypatch.setattr("service.catalog.roots.os.access", access)
    found = Catalog([Root(store.root, "ollama", named=False)], Demo(Path("/x/y")))
    found.refresh()
    found.refresh()

    assert found.roots()[0].problem == f"{locked} cannot be entered: Permission denied"
    assert caplog.text.count("cannot be entered") == 1


def test_a_place_that_need_not_be_there_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert obstacle(tmp_path, needed=True) is None
    assert obstacle(tmp_path / "nowhere/at/all", needed=False) is None
    assert obstacle(tmp_path / "nowhere", needed=True) == "there is no such directory"
    assert obstacle(tmp_path / "file/below", needed=False) == f"{tmp_path}/file is not a directory"
