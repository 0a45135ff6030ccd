"""The models that have an engine or wait for one, how long each stays, and those on their way out.

One that is sent away finishes what it has first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from service.catalog.card import ModelCard
from service.fleet.host import EngineHost
from service.fleet.keep_alive import KeepAlive
from service.fleet.room import Resident, turn_seconds
from service.generation import LoadWishes
from service.stats import ModelUnloaded, Observer, Unloading

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Occupant:
    """`reloaded_for`: what its engine should have more of, where it was loaded anew for it."""

    card: ModelCard
    host: EngineHost
    reloaded_for: LoadWishes | None = None


class Residents:
    """By the key of what is loaded. Those of `pinned` are not sent away for being idle."""

    def __init__(self, observer: Observer, keep_alive: float) -> None:
        self.keep_alive = KeepAlive(keep_alive, self._expire)
        self.pinned: frozenset[str] = frozenset()
        self._observer = observer
        self._occupants: dict[str, Occupant] = {}
        self._leaving: dict[asyncio.Task[None], tuple[str, EngineHost]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._occupants

    def __iter__(self) -> Iterator[tuple[str, Occupant]]:
        """As they are now: they may come and go while these are looked at."""
        return iter(list(self._occupants.items()))

    def __getitem__(self, key: str) -> Occupant:
        return self._occupants[key]

    def get(self, key: str) -> Occupant | None:
        return self._occupants.get(key)

    def host(self, key: str) -> EngineHost | None:
        occupant = self._occupants.get(key)
        return occupant.host if occupant is not None else None

    @property
    def hosts(self) -> list[EngineHost]:
        """Those that go included."""
        here = [occupant.host for occupant in self._occupants.values()]
        return [*here, *(host for _, host in self._leaving.values())]

    @property
    def loading(self) -> bool:
        return any(each.host.supervisor.state == "loading" for each in self._occupants.values())

    @property
    def leaving(self) -> list[asyncio.Task[None]]:
        return [*self._leaving]

    def all_of(self, key: str) -> list[EngineHost]:
        """The one that is here first, then those of that key that go."""
        now = [self._occupants[key].host] if key in self._occupants else []
        return now + [host for other, host in self._leaving.values() if other == key]

    def going(self, key: str) -> list[asyncio.Task[None]]:
        return [task for task, (other, _) in self._leaving.items() if other == key]

    def in_memory(self) -> list[Resident]:
        """Those that hold memory, or are about to; a failed one does not."""
        return [
            Resident(
                key,
                idle=host.idle and host.supervisor.state == "ready",
                used=host.used,
                turn_ends=turn_ends(host),
                pinned=key in self.pinned,
            )
            for key, host in ((key, each.host) for key, each in self._occupants.items())
            if host.supervisor.living and host.supervisor.state != "failed"
        ]

    def put(self, key: str, occupant: Occupant) -> None:
        self._occupants[key] = occupant

    def rests(self, key: str, host: EngineHost) -> None:
        """Its clock runs anew, if it has nothing to do and may go for that."""
        if host.idle and host.supervisor.state == "ready" and key not in self.pinned:
            self.keep_alive.begin(key)

    def forget(self, key: str) -> EngineHost:
        self.keep_alive.forget(key)
        return self._occupants.pop(key).host

    def succeed(self, key: str, reason: Unloading, to: str, occupant: Occupant) -> None:
        """The one of `key` goes, if there is one, and the other takes its place, as `to`: how long
        it stays is what a request said of the one before."""
        seconds = self.keep_alive.said(key)
        if key in self:
            self.send_away(key, reason)
        self.put(to, occupant)
        if seconds is not None:
            self.keep_alive.keep(to, seconds)

    def send_away(self, key: str, reason: Unloading) -> asyncio.Task[None]:
        """The task is done when it is gone."""
        return self.see_off(key, self.forget(key), reason)

    def see_off(self, key: str, host: EngineHost, reason: Unloading) -> asyncio.Task[None]:
        """Of a host that is not, or no longer, the one of its key."""
        task = asyncio.create_task(self._leave(host, reason))
        self._leaving[task] = key, host
        task.add_done_callback(self._left)
        return task

    async def close(self) -> None:
        draining = [host for _, host in self._leaving.values()]
        for key in list(self._occupants):
            self.send_away(key, "shutdown")
        await asyncio.gather(*(host.close() for host in draining))
        if self._leaving:
            await asyncio.wait([*self._leaving])

    async def _leave(self, host: EngineHost, reason: Unloading) -> None:
        if reason != "shutdown":
            await host.rest()
        if host.supervisor.facts is not None:
            logger.info("%s goes (%s)", host.model, reason)
            self._observer.on_model(ModelUnloaded(host.model, reason))
        await host.close()

    def _left(self, task: asyncio.Task[None]) -> None:
        del self._leaving[task]

    def _expire(self, key: str) -> None:
        if self._occupants[key].host.idle:
            self.send_away(key, "idle")


def turn_ends(host: EngineHost) -> float | None:
    """In monotonic seconds; None before it is loaded, and while its engine is started again for
    those who wait: it cannot go before them, and may need the room of others for it."""
    if host.ready_since is None or host.load_seconds is None:
        return None
    if host.supervisor.state != "ready" and not host.idle:
        return None
    return host.ready_since + turn_seconds(host.load_seconds)
