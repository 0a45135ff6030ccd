from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.catalog import names
from service.catalog.manifest import Layer, Manifest, read_manifest
from service.store.blobs import Incoming, Mismatch
from service.store.own_store import DAY, WEEK, Busy, Full, OwnStore, plain
from tests.test_stores_served import HOSTILE_NAMES

KIND = "application/vnd.ollama.image.model"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OwnStore]:
    made = OwnStore(tmp_path / "store")
    yield made
    made.close()


def blob(store: OwnStore, data: bytes) -> Layer:
    with store.incoming() as incoming:
        incoming.write(data)
        return Layer(incoming.keep(store.blobs), len(data), KIND)


def model(store: OwnStore, name: str, *layers: Layer) -> None:
    manifest = Manifest(layers)
    document = {"layers": [{"digest": x.digest, "size": x.size, "mediaType": KIND} for x in layers]}
    store.write(names.parse(name), json.dumps(document).encode(), manifest)


def everything(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_nothing_is_on_disk_before_something_is_kept(store: OwnStore) -> None:
    assert store.read(names.parse("x")) is None
    assert list(store.names()) == []
    assert not store.root.exists()


def test_a_blob_has_its_name_once_its_bytes_are_known(store: OwnStore) -> None:
    with store.incoming() as incoming:
        incoming.write(b"one")
        assert list(store.blobs.iterdir()) == []
        digest = incoming.keep(store.blobs)

    assert digest == f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert store.blob(digest).read_bytes() == b"one"
    assert store.has(digest, 3)
    assert not store.has(digest, 4)


def test_bytes_of_another_digest_leave_nothing_behind(store: OwnStore) -> None:
    promised = f"sha256:{'0' * 64}"
    for make in (store.incoming, lambda: store.partial(promised)):
        with pytest.raises(Mismatch), make() as incoming:
            incoming.keep(store.blobs, promised)

    assert everything(store.root).keys() == {"lock"}


def test_a_download_that_broke_off_is_gone_on_with(store: OwnStore) -> None:
    digest = f"sha256:{hashlib.sha256(b'onetwo').hexdigest()}"
    with store.partial(digest) as incoming:
        incoming.write(b"one")

    with store.partial(digest) as incoming:
        assert incoming.size == 3
        incoming.write(b"two")
        incoming.keep(store.blobs, digest)
    assert store.blob(digest).read_bytes() == b"onetwo"


def test_blobs_go_with_the_last_model_that_names_them(store: OwnStore) -> None:
    shared, own = blob(store, b"shared"), blob(store, b"own")
    model(store, "one", shared, own)
    model(store, "two", shared)

    assert store.delete(names.parse("one"))
    assert (store.has(shared.digest), store.has(own.digest)) == (True, False)
    assert store.delete(names.parse("two"))
    assert not store.has(shared.digest)
    assert not store.delete(names.parse("two"))
    assert list(store.manifests.iterdir()) == []


def test_a_model_that_is_replaced_gives_its_blobs_back(store: OwnStore) -> None:
    old, new = blob(store, b"old"), blob(store, b"new")
    model(store, "one", old)
    model(store, "ONE", new)

    assert [name.shortest for name, _ in store.names()] == ["one:latest"]
    assert (store.has(old.digest), store.has(new.digest)) == (False, True)


def test_what_is_held_stays(store: OwnStore) -> None:
    layer = blob(store, b"held")
    model(store, "one", layer)
    with store.holding([layer.digest]):
        store.delete(names.parse("one"))
        model(store, "two", layer)
    assert store.has(layer.digest)


def test_no_blob_goes_while_a_manifest_is_damaged(store: OwnStore) -> None:
    layer = blob(store, b"x")
    model(store, "one", layer)
    bad = store.manifests / "registry.ollama.ai/library/bad/latest"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    store.delete(names.parse("one"))

    assert store.has(layer.digest)


def test_a_model_whose_blobs_are_not_there_is_not_written(store: OwnStore) -> None:
    with pytest.raises(FileNotFoundError):
        model(store, "one", Layer(f"sha256:{'a' * 64}", 3, KIND))
    assert list(store.names()) == []


def test_one_process_writes(store: OwnStore) -> None:
    blob(store, b"x")
    second = OwnStore(store.root)

    with pytest.raises(Busy):
        second.open()
    store.close()
    second.open()
    second.close()


def test_what_nobody_came_back_for_goes_in_time(store: OwnStore) -> None:
    young, old, kept = blob(store, b"young"), blob(store, b"old"), blob(store, b"kept")
    model(store, "one", kept)
    partials = [store.blobs / f"sha256-{digit * 64}-partial" for digit in "ab"]
    for path in (*partials, store.root / "incoming-1"):
        path.touch()
    ages = [(store.blob(old.digest), 2 * DAY), (store.blob(kept.digest), 2 * WEEK)]
    for path, age in [*ages, (partials[0], 2 * WEEK), (partials[1], 2 * DAY)]:
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    store.close()
    store.open()

    left = {path.name for path in store.blobs.iterdir()}
    assert left == {
        *(store.blob(layer.digest).name for layer in (young, kept)),
        partials[1].name,
    }
    assert not (store.root / "incoming-1").exists()


def test_more_than_there_is_room_for_is_not_begun(store: OwnStore) -> None:
    with pytest.raises(Full):
        store.room_for(2**60)


@pytest.mark.parametrize("digest", [
    *HOSTILE_NAMES, "sha256-../../etc/passwd", "sha256:" + "g" * 64, "sha256:" + "a" * 63,
    "sha256:" + "a" * 65, "sha512:" + "a" * 64, "sha256/" + "a" * 64, "", "sha256:" + "a" * 64 + "\n",
    "sha256:" + "a" * 58 + "/../..", "sha256:" + "\u0661" * 64,
])  # fmt: skip
def test_no_path_is_made_of_what_is_no_digest(store: OwnStore, digest: str) -> None:
    for use in (plain, store.blob, store.has, store.partial):
        with pytest.raises(ValueError):
            use(digest)


@pytest.mark.parametrize("text", HOSTILE_NAMES)
def test_names_stay_below_the_manifests(store: OwnStore, text: str) -> None:
    name = names.parse(text)
    if name.valid:
        assert store.find(name) is None
        real = os.path.realpath(store.manifests / name.path)
        assert real.startswith(str(store.manifests) + os.sep)
    else:
        with pytest.raises(ValueError):
            store.find(name)


FULL = """
import resource, sys
from pathlib import Path
from service.store.own_store import OwnStore
store = OwnStore(Path(sys.argv[1]))
store.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
make = store.incoming if sys.argv[2] == "whole" else lambda: store.partial("sha256:" + "a" * 64)
try:
    with make() as incoming:
        for _ in range(5):
            incoming.write(bytes(1_000_000))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("kind", ["whole", "partial"])
def test_a_disk_that_takes_no_more_leaves_the_store_as_it_was(store: OwnStore, kind: str) -> None:
    layer = blob(store, b"x")
    model(store, "one", layer)
    before = everything(store.root)
    store.close()
    command = [sys.executable, "-c", FULL, str(store.root), kind]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert ran.stdout == "File too large\n"
    assert everything(store.root) == before


def test_a_manifest_is_there_whole_or_not_at_all(
    store: OwnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, other = blob(store, b"x"), blob(store, b"y")
    model(store, "one", layer)
    before = everything(store.root)

    def fail(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        model(store, "one", other)

    assert everything(store.root) == before
    data = store.read(names.parse("one"))
    assert data is not None
    assert read_manifest(data).layers is not None


def test_a_link_is_not_written_through(store: OwnStore, tmp_path: Path) -> None:
    store.open()
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    digest = f"sha256:{'a' * 64}"
    (store.blobs / f"sha256-{'a' * 64}-partial").symlink_to(outside)

    with pytest.raises(OSError):
        Incoming(store.blobs / f"sha256-{'a' * 64}-partial", lasting=True)
    with pytest.raises(OSError):
        store.partial(digest)
    assert outside.read_bytes() == b"kept"
