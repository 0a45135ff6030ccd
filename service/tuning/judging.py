"""What came of every change of the configuration.

Whatever changes it opens a window: its requests are held against those that ran under the version
before. Belongs to the event loop; what computes or writes does so in threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

from msgspec.structs import replace

from service.control.advice import Verify
from service.control.analysis import Analysis
from service.control.config import Applied, Version
from service.control.history import History
from service.control.incidents import Incidents, Tally
from service.control.records import AnalysisMade, AnyRecord, Change
from service.control.samples import TRIAL, Sample, Samples
from service.control.windows import Window, certain, judged
from service.errors import ServiceError
from service.tuning.changes import Changes, nothing, number

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 60.0
ANALYSIS_SECONDS: Final = 3600.0
NO_VERSION: Final = -1
# Why the configuration changes when a trial ends.
BACK: Final = f"{TRIAL}:back"
# Of a change that no advice asked for: what a user of a stream waits for between its words.
METRIC: Final = "llm_time_per_output_token_seconds"
AT_THE_NEXT_START: Final = "What was changed is in force from the next start on."


class Reconfigures(Protocol):
    """Of `reconfiguration.Reconfiguration`, what is needed here."""

    @property
    def version(self) -> Version: ...
    def versions(self) -> list[Version]: ...
    def listen(self, listener: Callable[[Applied], None]) -> None: ...
    async def apply(
        self,
        patch: Mapping[str, Any],
        *,
        by: str,
        why: str,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied: ...
    async def rollback(
        self, number: int, *, by: str, why: str | None = None, expected: str | None = None
    ) -> Applied: ...


class Advises(Protocol):
    """Of `control.analyst.Analyst`."""

    @property
    def latest(self) -> Analysis | None: ...


class Judging:
    """`tally`: totals of incidents so far; `hardware`: the name that effects are learned under;
    `automatic`: whether a change that made it worse is taken back unasked, by `go_back`."""

    def __init__(
        self,
        reconfiguration: Reconfigures,
        analyst: Advises,
        samples: Samples,
        history: History,
        *,
        tally: Callable[[], Tally],
        hardware: Callable[[], str],
        automatic: Callable[[], bool],
        go_back: Callable[[Change], Coroutine[Any, Any, None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.changes = Changes(history)
        self._reconfiguration = reconfiguration
        self._analyst = analyst
        self._samples = samples
        self._history = history
        self._tally = tally
        self._hardware = hardware
        self._automatic = automatic
        self._go_back = go_back
        self._clock = clock
        self._incidents = Incidents()
        self._window: Window | None = None
        # While a trial has changed the configuration: the version that it comes back to.
        self._trial: int | None = None
        self._verify: dict[str, Verify | None] = {}
        self._analysed = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Lock()
        samples.on_sample = self._take
        samples.change(reconfiguration.version.number)
        reconfiguration.listen(self._changed)

    @property
    def open(self) -> str | None:
        """The change whose window is open."""
        return self._window.change.id if self._window is not None else None

    def by(self, rule: str, verify: Verify | None) -> None:
        """What the changes that this rule advises are judged by."""
        self._verify[rule] = verify

    # Life

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.to_thread(self._close_forgotten)
        await self._end_forgotten_trial()
        while True:
            try:
                await self.tick()
            except Exception:
                logger.exception("what changes did could not be looked at")
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        now = self._clock()
        self._incidents.note(now, self._tally())
        window, analysis = self._window, self._analyst.latest
        if window is not None and window.over(now):
            await self._look(window, final=True)
        elif window is not None and self._unheard_of(window.change, now):
            await self._look(window, final=False)
        if analysis is not None and analysis.made_at - self._analysed >= ANALYSIS_SECONDS:
            self._analysed = analysis.made_at
            await self.add(made(analysis))

    async def close(self) -> None:
        """What is being looked at is still written."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    # What happens

    def _changed(self, applied: Applied) -> None:
        """The listener to changes: after each that is in force."""
        version = applied.version
        kind, _, what = version.why.partition(":")
        if kind == TRIAL:
            self._tried()
            return
        if not applied.changed:
            return
        rule = what if kind == "advice" else None
        verify = self._verify.get(what) if kind == "advice" else None
        undone = self.changes.from_version(what) if kind == "rollback" else None
        change = Change(
            at=self._clock(),
            id=self.changes.next_id,
            by=version.by,
            why=version.why,
            version=version.number,
            previous=applied.previous.number,
            config_hash=version.hash,
            changed=applied.changed,
            metric=METRIC if verify is None else verify.metric,
            direction="down" if verify is None else verify.direction,
            reloads=applied.reloads,
            rule=rule,
            undone=undone.id if undone is not None else None,
        )
        self.changes.begin(change)
        self._open(
            change, begun=version.made_at, later=set(applied.changed) <= set(applied.restart)
        )

    def _open(self, change: Change, *, begun: float, later: bool) -> None:
        closing, self._window = self._window, None
        # While a model was loaded beside it, what ran was slower than it had been.
        until = time.monotonic() - max(0.0, change.at - begun)
        before = [s for s in self._samples.of(self._samples.version) if s.ended <= until]
        self._samples.change(change.version)
        self._incidents.note(change.at, self._tally())
        if not later:
            self._window = Window(change, before)
        self._spawn(self._turn(closing, change, later=later))

    async def _turn(self, closing: Window | None, change: Change, *, later: bool) -> None:
        await self.add(change)
        if closing is not None:
            own = (
                change.why.startswith("rollback:")
                and change.undone is not None
                and (number(change.undone) <= number(closing.change.id))
            )
            await self._look(closing, final=True, confounded_by=None if own else change.id)
        if later:
            await self.changes.tell(
                change, nothing(change, change.at, self._hardware(), AT_THE_NEXT_START)
            )

    def _take(self, sample: Sample) -> None:
        window = self._window
        if window is not None and window.take(sample):
            self._spawn(self._look(window, final=window.over(self._clock())))

    async def _look(self, window: Window, *, final: bool, confounded_by: str | None = None) -> None:
        if final and self._window is window:
            self._window = None
        evidence, now = window.evidence(), self._clock()
        incidents = self._incidents.new(window.change.at, now)
        async with self._looking:
            verdict = await asyncio.to_thread(
                judged,
                window.change,
                evidence,
                at=now,
                hardware=self._hardware(),
                incidents=incidents,
                final=final,
                confounded_by=confounded_by,
            )
            last = self._history.verdict(window.change.id)
            if last is not None and (last.final or last == replace(verdict, at=last.at)):
                return
            await self.changes.tell(window.change, verdict)
        if self._automatic() and self._window is window and certain(verdict):
            self._spawn(self._go_back(window.change))

    async def add(self, record: AnyRecord) -> None:
        """To the history; a disk that does not take it is told of in the log."""
        await self.changes.add(record)

    def _close_forgotten(self) -> None:
        self.changes.close_forgotten(lambda: self.open, self._clock(), self._hardware())

    async def _end_forgotten_trial(self) -> None:
        """The service was ended so abruptly that a trial could not give back what it had changed."""
        trial, *earlier = self._reconfiguration.versions()
        if trial.why.partition(":")[0] != TRIAL or trial.why == BACK or not earlier:
            return
        try:
            await self._reconfiguration.rollback(earlier[0].number, by=TRIAL, why=BACK)
        except ServiceError as error:
            logger.error("what a trial had changed could not be taken back: %s", error.message)
        self._trial = None
        self._samples.change(self._reconfiguration.version.number)

    def _unheard_of(self, change: Change, now: float) -> bool:
        """Whether something has happened since the change that its last verdict does not say."""
        last = self._history.verdict(change.id)
        told = last.incidents if last is not None else {}
        return not self._incidents.new(change.at, now).keys() <= told.keys()

    def _tried(self) -> None:
        """What a trial changes it changes back: what was being measured goes on afterwards."""
        if self._trial is None:
            self._trial = self._samples.version
            self._samples.change(NO_VERSION)
        else:
            self._samples.change(self._trial)
            self._trial = None

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def made(analysis: Analysis) -> AnalysisMade:
    return AnalysisMade(
        analysis.made_at,
        analysis.score,
        analysis.coverage,
        {component.id: component.health for component in analysis.components},
        tuple(advice.id for advice in analysis.recommendations),
    )
