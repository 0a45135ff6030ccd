from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.catalog.catalog import Catalog
from service.catalog.demo import Demo
from service.catalog.index import VERSION, Index
from tests.catalog.gguf_files import write
from tests.catalog.stores import PROJECTOR, Store, populate


def cards(root: Path, index: Path) -> list[Any]:
    catalog = Catalog([root], Demo(Path("/x/y")), Index(index))
    catalog.refresh()
    return list(catalog.cards())


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr("service.catalog.index.describe", read)


def test_after_a_start_no_header_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    populate(store)
    first = cards(store.root, tmp_path / "state/index.json")

    unread(monkeypatch)
    assert cards(store.root, tmp_path / "state/index.json") == first
    assert len(first) == 52


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "models/a.gguf")
    cards(tmp_path / "models", tmp_path / "index.json")
    write(path, cut=1)

    assert [card.reason for card in cards(path.parent, tmp_path / "index.json")] == ["corrupt"]


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    path = write(tmp_path / "models/a.gguf")
    write(tmp_path / "models/mmproj-a.gguf", metadata=PROJECTOR)
    index = tmp_path / "index.json"
    cards(tmp_path / "models", index)
    assert len(json.loads(index.read_bytes())["files"]) == 2

    path.unlink()
    cards(tmp_path / "models", index)
    assert list(json.loads(index.read_bytes())["files"]) == [str(tmp_path / "models/mmproj-a.gguf")]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"version":1,"files":[]}',
        b'{"version":1,"files":{"/a":{"identity":"x","gguf":{}}}}',
        b'{"version":0,"files":{}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path / "models/a.gguf")
    index = tmp_path / "index.json"
    index.write_bytes(damage)

    assert [card.problem for card in cards(tmp_path / "models", index)] == [None]
    assert json.loads(index.read_bytes())["version"] == VERSION


def test_it_is_replaced_whole_and_only_where_something_changed(tmp_path: Path) -> None:
    write(tmp_path / "models/a.gguf")
    index = tmp_path / "index.json"
    cards(tmp_path / "models", index)
    before = index.stat().st_ino

    cards(tmp_path / "models", index)
    assert index.stat().st_ino == before
    write(tmp_path / "models/b.gguf")
    cards(tmp_path / "models", index)
    assert index.stat().st_ino != before
    assert sorted(os.listdir(tmp_path)) == ["index.json", "models"]


def test_an_index_that_cannot_be_kept_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "models/a.gguf")
    (tmp_path / "file").touch()
    catalog = Catalog(
        [tmp_path / "models"], Demo(Path("/x/y")), Index(tmp_path / "file/index.json")
    )
    catalog.refresh()
    write(tmp_path / "models/b.gguf")
    catalog.refresh()

    assert len(catalog.cards()) == 2
    assert caplog.text.count("is not kept") == 1
