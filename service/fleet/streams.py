"""The requests in one engine's hands, each with its places in the queue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from service.errors import InvalidRequest, Overloaded
from service.fleet.queue_places import Places
from service.fleet.stream import EngineStream


class Streams:
    """Settled or not, until they are closed."""

    def __init__(self, model: str, capacity: int) -> None:
        self.places = Places(capacity)
        self._model = model
        self._ids = itertools.count(1)
        self._streams: dict[int, EngineStream] = {}
        self._at_rest = asyncio.Event()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[EngineStream]:
        """As they are now: they may be closed while these are looked at."""
        return iter(list(self._streams.values()))

    def get(self, id: int) -> EngineStream | None:
        return self._streams.get(id)

    @property
    def running(self) -> int:
        return sum(stream.scheduled for stream in self._streams.values())

    @property
    def waiting(self) -> int:
        return len(self._streams) - self.running

    def open(
        self, n: int, now: float, *, arrived: float, deadline: float, api: str
    ) -> EngineStream:
        """With a place for each of `n` answers. Raises InvalidRequest where there are never so
        many, and Overloaded where all are taken."""
        if n > self.places.capacity:
            raise InvalidRequest(
                f"n is {n}; this model takes {self.places.capacity} at a time.", param="n"
            )
        if not self.places.take(n):
            raise Overloaded(
                f"The queue of the model `{self._model}` is full.",
                retry_after=self.places.retry_after(now),
            )
        stream = EngineStream(next(self._ids), n, arrived=arrived, deadline=deadline, api=api)
        self._streams[stream.id] = stream
        self._at_rest.clear()
        return stream

    def close(self, stream: EngineStream, now: float) -> bool:
        """Its places are free again. False where it was closed before."""
        if self._streams.pop(stream.id, None) is None:
            return False
        self.places.give_back(stream.n, now)
        if not self._streams:
            self._at_rest.set()
        return True

    async def rest(self) -> None:
        """Comes back when there are none."""
        if self._streams:
            await self._at_rest.wait()
