"""Pulls from a registry that does what a real one does seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.catalog import names
from service.errors import Forbidden, ModelNotFound, RegistryFailed, ServiceError
from service.registries import Registries
from service.store.own_store import OwnStore
from service.store.pulling import Pulling
from service.store.registry import ATTEMPTS, Repository
from service.store.transfers import Step
from tests.store.fake_registry import HOST, FakeRegistry, cut, digest_of, status

NAME = names.parse(f"{HOST}/library/x")
DATA = bytes(range(256)) * 5000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OwnStore]:
    made = OwnStore(tmp_path / "store")
    yield made
    made.close()


async def pull(store: OwnStore, registry: FakeRegistry) -> list[Step]:
    steps: list[Step] = []

    async def pause(seconds: float) -> None:
        """Not in a test."""

    async with registry.gate() as gate:
        repository = Repository(gate, Registries.parse([HOST]), NAME, pause)
        await Pulling(store).pull(repository, NAME, steps.append)
    return steps


def names_of(store: OwnStore) -> list[str]:
    return [name.shortest for name, _ in store.names()]


async def test_a_model_arrives_with_the_manifest_that_the_registry_has(store: OwnStore) -> None:
    registry = FakeRegistry([DATA, b"small", DATA])
    steps = await pull(store, registry)

    assert store.read(NAME) == registry.manifest()
    assert store.blob(digest_of(DATA)).read_bytes() == DATA
    assert [step.status for step in steps][0] == "pulling manifest"
    assert [step.status for step in steps][-2:] == ["verifying sha256 digest", "writing manifest"]
    told = [step for step in steps if step.digest == digest_of(DATA)]
    assert told[0] == Step(f"pulling {digest_of(DATA)[7:19]}", digest_of(DATA), len(DATA))
    assert [step.completed for step in told] == sorted(step.completed for step in told)
    assert told[-1].completed == len(DATA)
    assert len(registry.asked) == 3


async def test_what_is_there_is_not_fetched_again(store: OwnStore) -> None:
    await pull(store, FakeRegistry([DATA]))
    again = FakeRegistry([DATA, b"new"])
    await pull(store, again)

    assert [request.url.path.rpartition("/")[2] for request in again.asked] == [
        "latest",
        digest_of(b"new"),
    ]


async def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(store: OwnStore) -> None:
    registry = FakeRegistry([DATA], [None, cut(DATA, 700_000), status(503)])
    await pull(store, registry)

    assert registry.asked[-1].headers["range"] == "bytes=700000-"
    assert store.blob(digest_of(DATA)).read_bytes() == DATA


async def test_a_registry_without_ranges_is_begun_anew(store: OwnStore) -> None:
    def whole(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=DATA)

    registry = FakeRegistry([DATA], [None, cut(DATA, 700_000), whole])
    await pull(store, registry)
    assert store.blob(digest_of(DATA)).read_bytes() == DATA


async def test_a_beginning_that_lost_bytes_is_fetched_anew(store: OwnStore) -> None:
    with store.partial(digest_of(DATA)) as incoming:
        incoming.write(bytes(500_000))
    await pull(store, FakeRegistry([DATA]))
    assert store.blob(digest_of(DATA)).read_bytes() == DATA


async def test_a_beginning_that_is_too_long_is_fetched_anew(store: OwnStore) -> None:
    with store.partial(digest_of(DATA)) as incoming:
        incoming.write(DATA + b"more")
    await pull(store, FakeRegistry([DATA]))
    assert store.blob(digest_of(DATA)).read_bytes() == DATA


async def test_other_bytes_than_promised_are_not_kept(store: OwnStore) -> None:
    def other(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=bytes(len(DATA)))

    with pytest.raises(RegistryFailed, match="digest mismatch"):
        await pull(store, FakeRegistry([DATA], [None, other]))
    assert names_of(store) == []
    assert list(store.blobs.iterdir()) == []


async def test_more_bytes_than_promised_are_not_read(store: OwnStore) -> None:
    def endless(request: httpx.Request) -> httpx.Response:
        async def body() -> object:
            while True:
                yield bytes(1 << 20)

        return httpx.Response(200, content=body())  # type: ignore[arg-type]

    with pytest.raises(RegistryFailed, match="more bytes"):
        await pull(store, FakeRegistry([DATA], [None, endless]))
    assert names_of(store) == []


@pytest.mark.parametrize("headers", [
    {}, {"content_range": "bytes 0-9/10"}, {"content_range": "bytes 5-9/11"}, {"content_range": "x"},
])  # fmt: skip
async def test_another_range_than_was_asked_for_is_not_taken(
    store: OwnStore, headers: dict[str, str]
) -> None:
    with store.partial(digest_of(DATA)) as incoming:
        incoming.write(DATA[:5])
    with pytest.raises(RegistryFailed, match="another range"):
        await pull(store, FakeRegistry([DATA], [None, status(206, **headers)]))


async def test_a_registry_that_stays_away_is_given_up_on(store: OwnStore) -> None:
    registry = FakeRegistry([DATA], [status(503)] * 50)
    with pytest.raises(RegistryFailed, match="503"):
        await pull(store, registry)
    assert len(registry.asked) == ATTEMPTS


@pytest.mark.parametrize(
    ("turn", "error"),
    [
        (status(404), ModelNotFound),
        (status(403), Forbidden),
        (status(401), Forbidden),
        (status(401, www_authenticate='Basic realm="x"'), Forbidden),
        (status(401, www_authenticate='Bearer realm="http://169.254.169.254/"'), Forbidden),
        (status(401, www_authenticate='Bearer realm="https://other.example/"'), Forbidden),
        (status(400), RegistryFailed),
        (status(200), RegistryFailed),
        (lambda request: httpx.Response(200, content=b"{}"), RegistryFailed),
        (lambda request: httpx.Response(200, content=bytes(5 << 20)), RegistryFailed),
        (lambda request: httpx.Response(200, json={"manifests": []}), RegistryFailed),
        (
            lambda request: httpx.Response(
                200, json={"layers": [{"mediaType": "application/vnd.ollama.image.model",
                                       "digest": "sha256:../../etc/passwd", "size": 1}]}
            ),
            RegistryFailed,
        ),
    ],
)  # fmt: skip
async def test_what_the_registry_does_wrong_is_said(
    store: OwnStore, turn: object, error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        await pull(store, FakeRegistry([DATA], [turn]))  # type: ignore[list-item]
    assert names_of(store) == []


async def test_a_token_is_fetched_where_one_is_wanted(store: OwnStore) -> None:
    registry = FakeRegistry([DATA], token="secret")
    await pull(store, registry)

    paths = [request.url.path.rpartition("/")[2] for request in registry.asked]
    assert paths == ["latest", "token", "latest", digest_of(DATA)]
    assert dict(registry.asked[1].url.params) == {"service": "s", "scope": "repository:x:pull"}


async def test_a_size_that_is_no_disks_is_refused_before_a_byte_is_fetched(
    store: OwnStore,
) -> None:
    registry = FakeRegistry([DATA])
    manifest = registry.manifest().replace(str(len(DATA)).encode(), str(2**60).encode())
    registry.turns = [lambda request: httpx.Response(200, content=manifest)]
    with pytest.raises(OSError, match="are free"):
        await pull(store, registry)
    assert len(registry.asked) == 1


async def test_two_models_that_share_a_blob_fetch_it_once(store: OwnStore) -> None:
    registry = FakeRegistry([DATA])
    pulling = Pulling(store)
    async with registry.gate() as gate:

        async def one(model: str) -> None:
            name = names.parse(f"{HOST}/library/{model}")
            repository = Repository(gate, Registries.parse([HOST]), name)
            await pulling.pull(repository, name, lambda step: None)

        await asyncio.gather(*(one(f"m{number}") for number in range(4)))

    blobs = [request for request in registry.asked if "/blobs/" in request.url.path]
    assert len(blobs) == 1
    assert len(names_of(store)) == 4
