"""Advice tried before it is taken: prompts under the configuration in force, under the advised one,
and under the first again (`control.replay` says what that shows). Minutes, and only while nobody
else asks for anything: a user's request ends it, and the configuration is what it was.

Its requests take the way of all others, and are no user's: the families of requests, the traces and
the samples that changes are judged by do not have them. What engines tell of their steps has, and so
does the list of requests that run: both say what the engine does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final

from msgspec import Struct

from service.control.advice import Recommendation
from service.control.config import Applied
from service.control.records import Tried
from service.control.replay import LEAST_PROMPTS, MAX_TOKENS, Turn, compared, prompts, verdict
from service.control.samples import TRIAL, LoadClass, Sample, Sampled, times
from service.errors import ChangeRefused, ServiceError
from service.events import FinishReason
from service.generation import GenerationRequest, SamplingParams, Text
from service.serving.runtime import Runtime
from service.stats import RequestStats
from service.tuning.judging import BACK, METRIC, Judging, Reconfigures

logger = logging.getLogger(__name__)

ENDPOINT: Final = "/api/optimization/trial"
PROMPTS: Final = 12
# Of each turn, beside the others: caches are empty, and pages not read yet.
WARM_UP: Final = 2
POLL_SECONDS: Final = 0.05
DEFAULT_SECONDS: Final = 120.0
MOST_SECONDS: Final = 600.0
TURNS: Final = ("before", "advised", "before again")


class Running(Struct, frozen=True):
    id: str
    rule: str
    turn: str
    done: int
    of: int
    started: float


class Stopped(Exception):
    """outcome: `interrupted` by a user, `timeout`, or `failed`."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


class Trial:
    """One at a time. Belongs to the event loop."""

    def __init__(
        self,
        runtime: Runtime,
        reconfiguration: Reconfigures,
        judging: Judging,
        sampled: Sampled,
        hardware: Callable[[], str],
    ) -> None:
        self.running: Running | None = None
        self.last: Tried | None = None
        self._runtime = runtime
        self._reconfiguration = reconfiguration
        self._judging = judging
        self._hardware = hardware
        self._stats: dict[str, RequestStats] = {}
        self._task: asyncio.Task[None] | None = None
        sampled.on_trial = lambda stats: self._stats.update({stats.id: stats})

    def start(
        self, advice: Recommendation, *, expected: str | None, by: str, seconds: float
    ) -> Running:
        """Comes back at once; `last` has what came of it. Raises ChangeRefused where it cannot be
        made now."""
        if self.running is not None:
            raise ChangeRefused(f"The trial of `{self.running.rule}` is still running.")
        if not advice.patch:
            raise ChangeRefused(f"`{advice.id}` is not for this service to do: {advice.action}")
        if (busy := self._users()) > 0:
            raise ChangeRefused(
                f"{busy} requests are being answered: a trial needs an idle service."
            )
        id = f"{TRIAL}-{int(time.time() * 1000)}"
        total = len(TURNS) * (PROMPTS + WARM_UP)
        self.running = Running(id, advice.id, TURNS[0], 0, total, time.time())
        work = self._make(self.running, advice, expected, by, seconds)
        self._task = asyncio.get_running_loop().create_task(work)
        return self.running

    async def close(self) -> None:
        """The configuration is given back first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _make(
        self,
        running: Running,
        advice: Recommendation,
        expected: str | None,
        by: str,
        seconds: float,
    ) -> None:
        turns: list[Turn] = []
        outcome, why = "completed", None
        try:
            async with asyncio.timeout(seconds):
                turns.append(await self._turn(TURNS[0]))
                back = self._reconfiguration.version.number
                applied = await self._change(advice, expected, by)
                try:
                    turns.append(await self._turn(TURNS[1]))
                finally:
                    await whole(self._give_back(back, by, applied))
                turns.append(await self._turn(TURNS[2]))
        except Stopped as stopped:
            outcome, why = stopped.outcome, str(stopped)
        except TimeoutError:
            outcome, why = "timeout", f"It took more than {seconds:.0f} seconds."
        except ServiceError as error:
            outcome, why = "failed", error.message
        except asyncio.CancelledError:
            outcome, why = "interrupted", "The service is shutting down."
        finally:
            self.running = None
            self._stats.clear()
        await self._end(running, advice, by, turns, outcome, why)

    async def _change(self, advice: Recommendation, expected: str | None, by: str) -> Applied:
        applied = await self._reconfiguration.apply(
            advice.patch or {}, by=by, why=f"{TRIAL}:{advice.id}", expected=expected
        )
        if not applied.changed:
            raise ChangeRefused(f"What `{advice.id}` asks for is in force already.")
        return applied

    async def _give_back(self, number: int, by: str, applied: Applied) -> None:
        if self._reconfiguration.version.number != applied.version.number:
            raise Stopped("interrupted", "The configuration was changed by somebody else.")
        await self._reconfiguration.rollback(number, by=by, why=BACK)

    async def _end(
        self,
        running: Running,
        advice: Recommendation,
        by: str,
        turns: list[Turn],
        outcome: str,
        why: str | None,
    ) -> None:
        verify = advice.verify
        metric, direction = (
            (METRIC, "down") if verify is None else (verify.metric, verify.direction)
        )
        effects, drift = compared(turns) if outcome == "completed" else ({}, {})
        now = time.time()
        self.last = Tried(
            at=now,
            id=running.id,
            rule=advice.id,
            by=by,
            outcome=outcome,
            hardware=self._hardware(),
            verdict=verdict(effects, metric, direction, drift.get(metric, 1.0)),
            seconds=now - running.started,
            effects=effects,
            drift=drift,
            reason=why,
        )
        await self._judging.add(self.last)

    async def _turn(self, name: str) -> Turn:
        assert self.running is not None
        texts = prompts(PROMPTS + WARM_UP)
        samples: dict[int, Sample] = {}
        for n, prompt in enumerate(texts):
            sample = await self._alone(f"{self.running.id}-{TURNS.index(name)}-{n}", prompt)
            if n >= WARM_UP:
                samples[n] = sample
            done = TURNS.index(name) * len(texts) + n + 1
            self.running = Running(
                self.running.id,
                self.running.rule,
                name,
                done,
                self.running.of,
                self.running.started,
            )
        if len(samples) < LEAST_PROMPTS:
            raise Stopped("failed", "Too few prompts were answered.")
        return samples

    async def _alone(self, id: str, prompt: str) -> Sample:
        """One request, ended as soon as anybody else asks for something."""
        asking = asyncio.create_task(self._ask(id, prompt))
        try:
            while not (await asyncio.wait({asking}, timeout=POLL_SECONDS))[0]:
                if self._users() > 1:
                    raise Stopped("interrupted", "A user's request came.")
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})
        stats = await asking
        if stats is None or stats.reason is not FinishReason.LENGTH:
            raise Stopped("failed", "A request of the trial was not answered.")
        load = LoadClass(stats.model, stats.operation, stats.stream, 0, 1)
        return Sample(load, 0, stats.arrived, stats.ended, stats.reason, *times(stats))

    async def _ask(self, id: str, prompt: str) -> RequestStats | None:
        request = GenerationRequest(
            id=id,
            model="",
            input=Text(prompt),
            arrived=time.monotonic(),
            dialect=TRIAL,
            endpoint=ENDPOINT,
            sampling=SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0, ignore_eos=True),
            # What one turn has computed is not there for the next.
            cache_salt=id.rpartition("-")[0],
        )
        async with aclosing(await self._runtime.admit(request)) as generation:
            async for _ in generation.batches():
                pass
        return self._stats.pop(id, None)

    def _users(self) -> int:
        """Requests that run or wait, a trial's among them."""
        return sum(model.running + model.waiting for model in self._runtime.models())


async def whole(work: Coroutine[Any, Any, None]) -> None:
    """To its end, also where whoever waits for it is told to stop; and then stops."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
