"""How often one may fail, and how much one key may ask for. All in memory, and all of it bounded."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from service.access.keys import Key

FAILURES: Final = 10
FAILURE_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 4096
MINUTE: Final = 60.0

Clock = Callable[[], float]


class Failures:
    """Counts what an address does wrong, in windows that begin with its first failure. Of too many
    addresses, those go that have failed least lately."""

    def __init__(
        self,
        most: int = FAILURES,
        seconds: float = FAILURE_SECONDS,
        addresses: int = MAX_ADDRESSES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._addresses = addresses
        self._clock = clock
        # address → when its window began, and failures in it
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> float | None:
        """Seconds until it may fail again, where this was once too often."""
        now, who = self._clock(), network(address)
        began, failures = self._windows.pop(who, (now, 0))
        if now - began >= self._seconds:
            began, failures = now, 0
        self._windows[who] = (began, failures + 1)
        if len(self._windows) > self._addresses:
            self._windows.popitem(last=False)
        return None if failures < self._most else began + self._seconds - now

    def __len__(self) -> int:
        return len(self._windows)


def network(address: str) -> str:
    """An IPv6 network of 64 bits is one place: whoever has one address of it has them all."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


@dataclass(slots=True)
class Use:
    """What a key has left: `tokens` of its minute as of `since`, and requests that run."""

    tokens: float
    since: float
    running: int = 0


@dataclass(frozen=True, slots=True)
class Excess:
    """Which of a key's limits a request goes beyond. `wait`: seconds, where that is known."""

    limit: str
    most: int
    wait: float | None = None


class Allowances:
    """The limits of each key, by its name: a reload of the file does not give it a new minute."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, Use] = {}

    def enter(self, key: Key) -> Excess | None:
        """Counts a request that begins, unless it goes beyond a limit; `leave` counts its end."""
        now = self._clock()
        use = self._uses.setdefault(key.name, Use(key.rpm or 0, now))
        if key.max_concurrent is not None and use.running >= key.max_concurrent:
            return Excess("max_concurrent", key.max_concurrent)
        if key.rpm is not None:
            rate = key.rpm / MINUTE
            use.tokens = min(key.rpm, use.tokens + (now - use.since) * rate)
            use.since = now
            if use.tokens < 1:
                return Excess("rpm", key.rpm, math.ceil((1 - use.tokens) / rate))
            use.tokens -= 1
        use.running += 1
        return None

    def leave(self, key: Key) -> None:
        self._uses[key.name].running -= 1

    def keep(self, names: Collection[str]) -> None:
        """Forgets keys that are gone, once nothing of theirs runs."""
        gone = [n for n, use in self._uses.items() if n not in names and not use.running]
        for name in gone:
            del self._uses[name]
