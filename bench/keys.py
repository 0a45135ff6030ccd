"""`python -m bench.keys`: what the gate before each route costs, and whether its time betrays keys.

Keys that are wrong in their first letter and in their last one are shown in turns, in an order
drawn by chance, to a file of 64 keys. If it took longer to refuse one of the two, a key could be
guessed letter by letter. Times above the 99th percentile of both together are left out: in them
the process waited for the machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.access.key_file import KeyFile
from service.control.audit import Audit
from service.edge.gate import Gate
from service.errors import ServiceError
from service.settings import Settings
from service.telemetry.http import Exchange

TIMES: Final = 20_000
KEYS: Final = 64
BODIES: Final = [f"{number:02}{'x' * 41}" for number in range(KEYS)]
RIGHT: Final = f"llm-{BODIES[KEYS // 2]}"
FIRST: Final = f"llm-#{RIGHT[5:]}"
LAST: Final = f"{RIGHT[:-1]}#"

Measured = dict[str, list[int]]


async def reached(scope: Scope, receive: Receive, send: Send) -> None:
    return None


async def nothing() -> Message:
    return {}


async def nowhere(message: Message) -> None:
    return None


def key_file(folder: Path, count: int) -> KeyFile:
    path = folder / f"keys-{count}"
    chosen = [RIGHT[4:], *(body for body in BODIES if body != RIGHT[4:])][:count]
    digests = (hashlib.sha256(f"llm-{body}".encode()).hexdigest() for body in chosen)
    path.write_text("".join(f"k{n} inference sha256:{d}\n" for n, d in enumerate(digests)))
    path.chmod(0o600)
    return KeyFile(path)


def gated(keys: KeyFile | None, audit: Audit) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    gate = Gate(keys, lambda state, caller: dict(state), lambda why: None, audit)
    route = Route("/v1/chat/completions", reached, methods=["POST"])
    route.app = reached
    (guarded,) = gate.guarded([route])
    assert isinstance(guarded, Route)
    return guarded.app


def asking(key: str | None, settings: Settings) -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"user-agent", b"bench"), (b"accept", b"*/*"), (b"content-length", b"100")]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    return {
        "type": "http",
        "method": "POST",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "state": {"settings": settings},
        "llm.exchange": Exchange("r", 0.0),
    }


async def timed(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], scopes: Mapping[str, Scope], times: int
) -> Measured:
    """Nanoseconds of each request, by the name of its scope."""
    order = list(scopes) * times
    random.Random(1).shuffle(order)
    taken: Measured = {name: [] for name in scopes}
    for name in order:
        scope = dict(scopes[name])
        began = perf_counter_ns()
        with suppress(ServiceError):
            await app(scope, nothing, nowhere)
        taken[name].append(perf_counter_ns() - began)
    return taken


def without_waits(taken: Measured) -> Measured:
    everything = sorted(value for values in taken.values() for value in values)
    most = everything[len(everything) * 99 // 100]
    return {name: [v for v in values if v <= most] for name, values in taken.items()}


def welch(one: Sequence[int], other: Sequence[int]) -> float:
    """The chance of means at least this far apart if nothing were behind it. There are so many
    that Student's distribution is the normal one."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    t = (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(spread)
    return math.erfc(abs(t) / math.sqrt(2))


async def main() -> None:
    settings = Settings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        audit = Audit(folder)
        many = key_file(folder, KEYS)
        wrong = {"first": asking(FIRST, settings), "last": asking(LAST, settings)}
        taken = without_waits(await timed(gated(many, audit), wrong, TIMES))
        means = {name: statistics.fmean(values) for name, values in taken.items()}
        apart = abs(means["first"] - means["last"]) / means["first"]
        say(
            f"wrong first letter {means['first'] / 1000:.3f} µs, wrong last {means['last'] / 1000:.3f} µs"
        )
        say(
            f"{100 * apart:.2f} % apart (bar: 1), p {welch(taken['first'], taken['last']):.3f} (bar: above 0.01)"
        )
        for label, keys, key in (
            ("no keys asked for", None, None),
            ("1 key", key_file(folder, 1), RIGHT),
            (f"{KEYS} keys", many, RIGHT),
        ):
            scopes = {"asked": asking(key, settings)}
            bare = (await timed(reached, scopes, TIMES))["asked"]
            behind = (await timed(gated(keys, audit), scopes, TIMES))["asked"]
            cost = statistics.median(behind) - statistics.median(bare)
            say(f"the gate, {label}: {cost / 1000:.2f} µs a request")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    asyncio.run(main())
