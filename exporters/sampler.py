"""One thread that reads something every few seconds, so that nobody who asks has to wait for it.

A driver or a network disk can hang inside a call, which no timeout ends. Then the thread hangs with
it, the last sample grows old, and from `stale_after` on there is none: old values are not shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
STALE_SECONDS: Final = 10.0
# A scrape right after the start waits so long for the first sample, and no longer.
FIRST_SECONDS: Final = 0.5

T = TypeVar("T")


class NothingToRead(Exception):
    """This machine has no such thing, which is not a failure."""


@dataclass(frozen=True)
class Sample(Generic[T]):
    """`at`: monotonic seconds when the reading was complete; `seconds` that it took."""

    value: T
    at: float
    seconds: float


class Sampler(Generic[T]):
    """`read`, and at the end `close`, are called on the sampler's own thread; all else from any."""

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        close: Callable[[], None] = lambda: None,
        interval: float = INTERVAL_SECONDS,
        stale_after: float = STALE_SECONDS,
    ) -> None:
        self.name = name
        self._read = read
        self._close = close
        self._interval = interval
        self._stale_after = stale_after
        self._last: Sample[T] | None = None
        # Why the last try gave no sample; None if it gave one.
        self._failure: Exception | None = None
        self._tried = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        # A daemon: no process must stay for a call that does not return.
        self._thread = threading.Thread(target=self._run, name=f"sample-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for a reading that is under way, though not for one that hangs."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(FIRST_SECONDS)

    @property
    def last(self) -> Sample[T] | None:
        """The newest sample, however old it is."""
        return self._last

    @property
    def age(self) -> float | None:
        last = self._last
        return None if last is None else time.monotonic() - last.at

    @property
    def absent(self) -> bool:
        return isinstance(self._failure, NothingToRead)

    @property
    def failure(self) -> str | None:
        """Why there is no fresh value, in words."""
        failure, age = self._failure, self.age
        if failure is not None:
            return str(failure) or type(failure).__name__
        if age is None:
            return "nothing was read yet"
        return f"no answer for {age:.0f} s" if age > self._stale_after else None

    @property
    def fresh(self) -> T | None:
        last = self._last
        return last.value if last is not None and self.failure is None else None

    def first(self) -> None:
        """Waits until the first try is over, for `FIRST_SECONDS` at most."""
        self._tried.wait(FIRST_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._try()
            self._tried.set()
            self._stopped.wait(self._interval)
        self._close()

    def _try(self) -> None:
        began = time.monotonic()
        before = self._failure
        try:
            value = self._read()
        except Exception as error:
            self._failure = error
            # Once, not every two seconds.
            if str(error) != str(before):
                self._log(error)
            return
        now = time.monotonic()
        self._last = Sample(value, now, now - began)
        self._failure = None
        if before is not None:
            logger.info("The collector %s can read again", self.name)

    def _log(self, error: Exception) -> None:
        if isinstance(error, NothingToRead):
            logger.info("The collector %s: %s", self.name, error)
        else:
            logger.warning("The collector %s cannot read: %r", self.name, error)
