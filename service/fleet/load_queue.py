"""Those that wait for room, and are loaded in the order in which they were first asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from service.errors import ModelUnavailable
from service.fleet import endings
from service.fleet.host import EngineHost
from service.fleet.residents import Residents
from service.fleet.room import Come, Never, Wait, make_room


class LoadQueue:
    """`most`: models in memory at the same time."""

    def __init__(self, residents: Residents, most: int) -> None:
        self.most = most
        self._residents = residents
        # Longest first; the keys of hosts that have not been started.
        self._wanting: list[str] = []
        self._next: asyncio.TimerHandle | None = None

    def __contains__(self, key: str) -> bool:
        """Whether it waits."""
        return key in self._wanting

    def want(self, key: str) -> None:
        if key not in self._wanting and not self._residents[key].host.supervisor.living:
            self._wanting.append(key)
            self.invite()

    def want_host(self, key: str, host: EngineHost) -> None:
        """One that is nobody's yet does not wait for room."""
        if self._residents.host(key) is host:
            self.want(key)
        else:
            host.start()

    def on_change(self, key: str, host: EngineHost) -> None:
        """It is ready, has failed, or has nothing more to do."""
        if self._residents.host(key) is host:
            if key in self._wanting and host.idle and key not in self._residents.pinned:
                # Whoever wanted it has gone.
                self._wanting.remove(key)
                self._residents.forget(key)
            self._residents.rests(key, host)
        self.invite()

    def invite(self) -> None:
        """Those that wait and that there can be room for now, one at a time: where the next one
        goes depends on the memory that this one takes."""
        while self._wanting and not self._residents.loading:
            key = self._wanting[0]
            now = time.monotonic()
            match make_room(self._fits, self._residents.in_memory(), now):
                case Come(leaving):
                    for other in leaving:
                        self._residents.send_away(other, "evicted")
                    self._wanting.pop(0)
                    self._residents[key].host.start(after=self._residents.leaving)
                case Wait(until):
                    self._invite_later(until, now)
                    return
                case Never():
                    self._wanting.pop(0)
                    self._turn_away(key)

    def close(self) -> None:
        self._wanting.clear()
        if self._next is not None:
            self._next.cancel()

    def _fits(self, gone: Collection[str]) -> bool:
        staying = [each for each in self._residents.in_memory() if each.key not in gone]
        return len(staying) < self.most

    def _invite_later(self, until: float | None, now: float) -> None:
        if self._next is not None:
            self._next.cancel()
        if until is not None:
            self._next = asyncio.get_running_loop().call_later(until - now, self.invite)

    def _turn_away(self, key: str) -> None:
        host = self._residents.forget(key)
        error = ModelUnavailable(
            f"There is no room for the model `{host.model}` beside those that have to stay.",
            retry_after=5.0,
        )
        host.end_all(endings.failed(error))
