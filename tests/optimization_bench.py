"""An Optimization on a bench: settings that are versions of one number, requests at will, a clock that is
set."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.control.advice import Recommendation, Verify
from service.control.analysis import Analysis
from service.control.config import Applied, Version
from service.control.history import History
from service.control.records import Judged
from service.control.samples import Samples
from service.events import FinishReason, Timings, Usage
from service.stats import RequestStats
from service.tuning.optimization import Optimization

METRIC = "llm_time_per_output_token_seconds"
ADVICE = Recommendation(
    id="threads-physical",
    category="performance",
    component="cpu.threads",
    priority="high",
    difficulty="easy",
    title="Fewer threads",
    description="16 threads on 2 cores",
    action="Compute with 2 threads.",
    impact="",
    risk="",
    gain_points=10.0,
    needs="nothing",
    patch={"threads": 2},
    verify=Verify(METRIC, "down"),
    evidence={},
    links={},
)


class Settings:
    """Of a Reconfiguration, what Optimization asks for: versions of one setting."""

    def __init__(self) -> None:
        self.version = Version(1, "h1", 0.0, "local", "start", {"threads": 16})
        self._versions = [self.version]
        self._listeners: list[Callable[[Applied], None]] = []

    def versions(self) -> list[Version]:
        return self._versions[::-1]

    def listen(self, listener: Callable[[Applied], None]) -> None:
        self._listeners.append(listener)

    async def apply(
        self,
        patch: Mapping[str, Any],
        *,
        by: str,
        why: str,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied:
        before, number = self.version, self.version.number + 1
        overrides = {**before.overrides, **patch}
        changed = {
            key: (before.overrides.get(key), value)
            for key, value in overrides.items()
            if before.overrides.get(key) != value
        }
        if changed:
            self.version = Version(number, f"h{number}", time.time(), by, why, overrides)
            self._versions.append(self.version)
        applied = Applied(self.version, before, changed, (), (), dry_run=False)
        for listener in self._listeners:
            listener(applied)
        return applied

    async def rollback(
        self, number: int, *, by: str, why: str | None = None, expected: str | None = None
    ) -> Applied:
        (found,) = (version for version in self._versions if version.number == number)
        return await self.apply(found.overrides, by=by, why=why or f"rollback:{number}")


class Advice:
    def __init__(self) -> None:
        self.latest: Analysis | None = Analysis(1.0, 1.0, 900.0, 70.0, 0.9, {}, (), (ADVICE,))


class Bench:
    """An Optimization, and requests for it."""

    def __init__(self, folder: Path, **others: Any) -> None:
        self.now = time.time()
        self.settings = Settings()
        self.advice = Advice()
        self.samples = Samples()
        self.history = History(folder)
        self.tally = {"engine_deaths": 0.0}
        self.made = Optimization(
            self.settings,
            self.advice,
            self.samples,
            self.history,
            known=lambda id: id in ("threads-physical", "slots-up"),
            tally=lambda: self.tally,
            hardware=lambda: "A CPU",
            clock=lambda: self.now,
            **{"automatic": lambda: False, **others},
        )
        self._random = random.Random(1)

    def requests(self, count: int, gap: float) -> None:
        """Answers of eleven tokens, with about `gap` seconds between them."""
        for _ in range(count):
            arrived = time.monotonic()
            last = arrived + 0.1 + 10 * gap * self._random.lognormvariate(0, 0.1)
            self.samples.on_finish(
                RequestStats(
                    id="r",
                    model="demo:latest",
                    dialect="openai",
                    endpoint="/v1/chat/completions",
                    stream=False,
                    reason=FinishReason.STOP,
                    arrived=arrived,
                    # A clock that no test waits for.
                    ended=arrived,
                    usage=Usage(30, 0, 11),
                    timings=Timings(arrived, arrived, arrived + 0.1, last, last),
                )
            )

    async def settled(self) -> None:
        while self.made.judging._tasks:
            await asyncio.wait(self.made.judging._tasks)

    def verdicts(self) -> list[tuple[str, str, bool]]:
        return [
            (r.change, r.verdict, r.final) for r in self.history.records() if isinstance(r, Judged)
        ]


@asynccontextmanager
async def bench(folder: Path, **others: Any) -> AsyncIterator[Bench]:
    made = Bench(folder, **others)
    yield made
    await made.settled()
