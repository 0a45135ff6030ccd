"""What can be done with the models of our own store: the one place that does it.

    pull, push, make      take their time, and tell how far they are
    copy, delete, upload  are done when they come back

All of them raise ServiceError and nothing else; a store that could not be written is as it was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from service.catalog.card import ModelCard
from service.catalog.manifest import Damaged, read_manifest
from service.catalog.names import Name
from service.errors import InvalidRequest, ModelNotFound, StoreFailed
from service.registries import Registries
from service.store.blobs import Incoming, Mismatch
from service.store.gate import Gate, Resolve, resolved
from service.store.making import Making, Quantize, Recipe
from service.store.own_store import OwnStore, plain
from service.store.pulling import Pulling, push
from service.store.registry import Repository, allowed
from service.store.threads import in_thread
from service.store.transfers import Step, Tell, Transfers


@dataclass(frozen=True, slots=True)
class Uploaded:
    """`new`: it was not there before."""

    digest: str
    new: bool


class Library:
    """`changed` makes the catalogue look again."""

    def __init__(
        self,
        store: OwnStore,
        registries: Registries,
        changed: Callable[[], Awaitable[None]],
        quantize: Quantize,
        resolve: Resolve = resolved,
    ) -> None:
        self._store = store
        self._registries = registries
        self._changed = changed
        self._quantize = quantize
        self._resolve = resolve
        self._transfers = Transfers()
        self._pulling = Pulling(store)

    async def close(self) -> None:
        await self._transfers.close()
        self._store.close()

    # With progress. What is wrong with the question is raised by the call, the rest on the way.

    def pull(self, name: Name) -> AsyncGenerator[list[Step], None]:
        """Who asks for what is being pulled follows the same transfer."""
        allowed(self._registries, name)
        return self._transfers.follow(f"pull {name.path}", partial(self._pull, name))

    def push(self, name: Name) -> AsyncGenerator[list[Step], None]:
        allowed(self._registries, name)
        return self._transfers.follow(f"push {name.path}", partial(self._push, name))

    def make(self, recipe: Recipe) -> AsyncGenerator[list[Step], None]:
        # Shared with nobody, but ended with the others.
        return self._transfers.follow(object(), partial(self._make, recipe))

    async def _pull(self, name: Name, tell: Tell) -> None:
        async with self._storing(), Gate(self._registries, self._resolve) as gate:
            await self._pulling.pull(Repository(gate, self._registries, name), name, tell)
        await self._changed()
        tell(Step("success"))

    async def _push(self, name: Name, tell: Tell) -> None:
        tell(Step("retrieving manifest"))
        async with self._storing(), Gate(self._registries, self._resolve) as gate:
            data = await in_thread(self._store.read, name)
            if data is None:
                raise ModelNotFound(name.shortest)
            await push(self._store, Repository(gate, self._registries, name), data, tell)
        tell(Step("success"))

    async def _make(self, recipe: Recipe, tell: Tell) -> None:
        async with self._storing():
            await Making(self._store, recipe, self._quantize, tell).make()
        await self._changed()
        tell(Step("success"))

    # At once

    async def copy(self, source: Name | None, card: ModelCard | None, to: Name) -> None:
        """Of a model that another program keeps, named by its `card`, the files are copied."""
        async with self._storing():
            data = await in_thread(self._store.read, source) if source is not None else None
            if data is not None:
                try:
                    manifest = read_manifest(data)
                except Damaged as damage:
                    raise InvalidRequest(f"the model is damaged: {damage}") from None
                await in_thread(self._store.write, to, data, manifest)
            elif card is not None:
                recipe = Recipe(to, card)
                await Making(self._store, recipe, self._quantize, lambda _: None).make()
        await self._changed()

    def has_model(self, name: Name) -> bool:
        return self._store.find(name) is not None

    async def delete(self, name: Name) -> bool:
        """False where the store has no such model. Its blobs go where no other needs them."""
        async with self._storing():
            deleted = await in_thread(self._store.delete, name)
        await self._changed()
        return deleted

    def has_blob(self, digest: str) -> bool:
        """Raises ValueError where that is no digest."""
        return self._store.has(digest)

    async def upload(
        self, digest: str, length: int | None, pieces: AsyncIterator[bytes]
    ) -> Uploaded:
        """Raises InvalidRequest where the bytes are others, ValueError where that is no digest."""
        digest = plain(digest)
        if self._store.has(digest):
            # Read all the same: who sends would otherwise find the connection closed.
            async for _ in pieces:
                pass
            return Uploaded(digest, new=False)
        async with self._storing():
            if length is not None:
                await in_thread(self._store.room_for, length)
            with await in_thread(self._store.incoming) as incoming:
                await receive(pieces, incoming)
                await in_thread(incoming.keep, self._store.blobs, digest)
        return Uploaded(digest, new=True)

    @asynccontextmanager
    async def _storing(self) -> AsyncIterator[None]:
        try:
            yield
        except Mismatch as mismatch:
            raise InvalidRequest(str(mismatch), param="digest") from None
        except OSError as error:
            raise StoreFailed(
                f"the store of models cannot be written: {error.strerror or type(error).__name__}"
            ) from error


async def receive(pieces: AsyncIterator[bytes], incoming: Incoming) -> None:
    async for piece in pieces:
        await in_thread(incoming.write, piece)
