"""A model comes from a registry into the store, or goes from the store to a registry.

Blobs arrive one after another, each going on where an earlier attempt, or an earlier life of the
process, has left off. The manifest is written when all of them are there and are what their
digests say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

import httpx

from service.catalog.manifest import Damaged, Layer, Manifest, read_manifest
from service.catalog.names import Name
from service.errors import RegistryFailed
from service.store.blobs import CHUNK, Incoming, Mismatch
from service.store.own_store import OwnStore, plain
from service.store.registry import ATTEMPTS, Passing, Repository, unreachable
from service.store.threads import in_thread
from service.store.transfers import Step, Tell

OF_MODELS = "application/vnd.ollama.image."


class Pulling:
    def __init__(self, store: OwnStore) -> None:
        self._store = store
        # Two models may share a blob that neither has yet.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pull(self, repository: Repository, name: Name, tell: Tell) -> None:
        tell(Step("pulling manifest"))
        data = await repository.manifest()
        manifest = model_in(data)
        new = [layer for layer in unique(manifest) if not self._store.has(layer.digest, layer.size)]
        try:
            with self._store.holding(layer.digest for layer in manifest.everything):
                await in_thread(self._store.room_for, sum(layer.size for layer in new))
                for layer in unique(manifest):
                    async with self._alone(layer.digest):
                        await self._fetch(repository, layer, tell)
                # Each was, while it arrived.
                tell(Step("verifying sha256 digest"))
                tell(Step("writing manifest"))
                await in_thread(self._store.write, name, data, manifest)
        except OSError:
            # On a full disk nothing is gone on with.
            await in_thread(self._store.drop, [layer.digest for layer in new])
            raise

    async def _fetch(self, repository: Repository, layer: Layer, tell: Tell) -> None:
        """Raises RegistryFailed where its bytes are others."""
        store, digest, size = self._store, plain(layer.digest), layer.size
        status = f"pulling {digest[7:19]}"
        tell(Step(status, digest, size, size if store.has(digest, size) else 0))
        if store.has(digest, size):
            return
        try:
            with await in_thread(store.partial, digest) as incoming:
                gone_on = incoming.size > 0
                if incoming.size > size:
                    incoming.restart()
                await download(repository, digest, size, incoming, tell)
                if gone_on and incoming.digest != digest:
                    # What an earlier life left may have lost bytes with the power.
                    incoming.restart()
                    await download(repository, digest, size, incoming, tell)
                await in_thread(incoming.keep, store.blobs, digest)
        except Mismatch as mismatch:
            raise RegistryFailed(f"what the registry sends is damaged: {mismatch}") from None

    @asynccontextmanager
    async def _alone(self, digest: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(plain(digest), asyncio.Lock())
        async with lock:
            yield


async def download(
    repository: Repository, digest: str, size: int, incoming: Incoming, tell: Tell
) -> None:
    """What is missing; as often as it is cut off, as long as some of it arrives each time."""
    status, attempt = f"pulling {digest[7:19]}", 0
    while incoming.size < size:
        before = incoming.size
        try:
            async with repository.blob(digest, before, size) as arriving:
                if arriving.start != before:
                    incoming.restart()
                async for piece in arriving.pieces(CHUNK):
                    await in_thread(incoming.write, piece)
                    tell(Step(status, digest, size, incoming.size))
            if incoming.size < size:
                raise Passing(f"the registry sends {incoming.size} bytes of {size}")
        except (Passing, httpx.TransportError) as error:
            attempt = 0 if incoming.size > before else attempt + 1
            if attempt >= ATTEMPTS:
                if isinstance(error, httpx.TransportError):
                    raise unreachable(repository.host, error) from None
                raise
            await repository.wait(attempt)


async def push(store: OwnStore, repository: Repository, data: bytes, tell: Tell) -> None:
    manifest = read_manifest(data)
    with store.holding(layer.digest for layer in manifest.everything):
        for layer in unique(manifest):
            digest, size = plain(layer.digest), layer.size
            step = Step(f"pushing {digest[7:19]}", digest, size)
            tell(step)
            if not await repository.has(digest):
                told = partial(_tell_pushed, tell, step)
                await repository.upload(digest, size, store.blob(digest), told)
            tell(Step(step.status, digest, size, size))
    tell(Step("pushing manifest"))
    await repository.put_manifest(data)


def _tell_pushed(tell: Tell, step: Step, completed: int) -> None:
    tell(Step(step.status, step.digest, step.total, completed))


def model_in(data: bytes) -> Manifest:
    """Raises RegistryFailed for what is no model's manifest."""
    try:
        manifest = read_manifest(data)
    except Damaged as damage:
        raise RegistryFailed(f"what the registry has is no model: {damage}") from None
    if not any(layer.media_type.startswith(OF_MODELS) for layer in manifest.layers or ()):
        raise RegistryFailed("what the registry has under that name is no model")
    return manifest


def unique(manifest: Manifest) -> list[Layer]:
    """Each blob once."""
    return list({plain(layer.digest): layer for layer in manifest.everything}.values())
