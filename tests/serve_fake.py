"""`llm-inference serve` with a scripted runtime: `python -m tests.serve_fake STREAM [FLAG...]`.

STREAM is what every request gets: `short`, `slow` (two seconds), `endless`, or `flood`; `doomed`
is a runtime whose start fails after a second, `broken` one that cannot be asked to stop, and
`blocking` one whose event loop stands still for four seconds on SIGUSR2.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

from service import systemd
from service.cli import parser, start
from service.events import Event, TextDelta
from tests.dialects.fakes import FakeRuntime, Script, end, says


class Doomed(FakeRuntime):
    async def start(self) -> None:
        await asyncio.sleep(1)
        raise OSError("the disk is gone")


class Broken(FakeRuntime):
    async def start(self) -> None:
        asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGTERM)

    async def close(self) -> None:
        raise RuntimeError("it cannot be closed")


class Blocking(FakeRuntime):
    async def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self.block)

    def block(self) -> None:
        systemd.notify("STATUS=blocked")
        time.sleep(4)
        systemd.notify("STATUS=unblocked")


class Flood:
    """More than any socket holds, made as it is read."""

    def __iter__(self) -> Iterator[list[Event] | float]:
        for n in range(100_000):
            yield [TextDelta(0, "x" * 4000)]
            if n % 16 == 0:
                yield 0.0


SCRIPTS: dict[str, Any] = {
    "short": says("Hello", " there"),
    "slow": [[TextDelta(0, "a")], 2.0, [TextDelta(0, "b"), end()]],
    "endless": [[TextDelta(0, "a")], 3600.0],
    "flood": Flood(),
}
RUNTIMES = {"doomed": Doomed, "broken": Broken, "blocking": Blocking}


def main() -> int:
    kind, *arguments = sys.argv[1:]
    given = vars(parser().parse_args(arguments))
    given.pop("command")
    if kind in RUNTIMES:
        return start(given, RUNTIMES[kind]().make)
    return start(given, FakeRuntime(script=cast(Script, SCRIPTS[kind])).make)


if __name__ == "__main__":
    sys.exit(main())
