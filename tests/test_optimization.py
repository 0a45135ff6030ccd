from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.control.advice import Recommendation, Verify
from service.control.analysis import Analysis
from service.control.config import Applied, Version
from service.control.history import History
from service.control.records import AnalysisMade, Change, Judged
from service.control.samples import Samples
from service.control.windows import SECONDS, WARM_UP
from service.errors import AdviceNotFound, ChangeNotFound, ChangeRefused
from service.events import FinishReason, Timings, Usage
from service.optimization import Optimization
from service.stats import RequestStats

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


async def test_advice_is_put_in_force_and_what_it_did_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.03)
        change, applied = await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(WARM_UP + 45, 0.02)
        await b.settled()

        assert (change.id, change.rule, change.by) == ("1", "threads-physical", "ci")
        assert applied.changed == {"threads": (16, 2)}
        assert b.verdicts()[-1] == ("1", "improved", False)
        verdict = b.history.verdict("1")
        assert verdict is not None
        effect = verdict.effects[METRIC]
        assert effect.low < 2 / 3 < effect.high
        assert (effect.before, effect.after) == (40, 45)
        assert not verdict.recommends_rollback
        (outcome,) = b.made.judging.changes.outcomes()
        assert (outcome.id, outcome.verdict, outcome.effect) == (
            "threads-physical",
            "improved",
            effect,
        )


async def test_a_window_is_closed_after_a_day_and_only_then_counted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.03)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(60, 0.02)
        await b.settled()
        assert b.made.judging.changes.outcomes()[0].verdicts == {}
        b.now += SECONDS
        await b.made.judging.tick()

        assert b.verdicts()[-1] == ("1", "improved", True)
        assert b.made.judging.changes.outcomes()[0].verdicts == {"improved": 1}
        assert b.made.judging.open is None
        learned = b.made.learned("threads-physical")
        assert learned is not None
        assert learned.applications == 1


async def test_going_back_is_a_change_with_a_verdict_of_its_own_and_confounds_nothing(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.02)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(60, 0.03)
        await b.settled()
        worse = b.history.verdict("1")
        assert worse is not None
        assert (worse.verdict, worse.recommends_rollback) == ("regressed", True)

        change, _ = await b.made.rollback("1", expected=None, by="ci")
        b.requests(60, 0.02)
        await b.settled()

        assert b.settings.version.overrides == {"threads": 16}
        assert (change.id, change.undone, change.why) == ("2", "1", "rollback:1")
        closed, better = b.history.verdict("1"), b.history.verdict("2")
        assert closed is not None
        assert better is not None
        assert (closed.final, closed.confounded_by) == (True, None)
        assert better.verdict == "improved"
        assert {outcome.id for outcome in b.made.judging.changes.outcomes()} == {
            "threads-physical",
            "rollback",
        }


async def test_every_change_opens_a_window_and_the_next_one_confounds_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.02)
        await b.settings.apply({"keep_alive": 60}, by="local", why="configure")
        b.requests(10, 0.02)
        await b.settings.apply({"parallel_slots": 2}, by="local", why="preset:balanced")
        await b.settled()

        first = b.history.verdict("1")
        assert first is not None
        assert (first.verdict, first.final, first.confounded_by) == ("insufficient_data", True, "2")
        assert first.reason is not None
        assert b.made.judging.open == "2"
        assert [outcome.id for outcome in b.made.judging.changes.outcomes()] == [
            "configure",
            "preset",
        ]


async def test_too_few_requests_are_no_verdict(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(19, 0.02)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(60, 0.02)
        await b.settled()

        assert {verdict for _, verdict, _ in b.verdicts()} == {"insufficient_data"}


async def test_an_engine_that_dies_as_none_did_before_is_a_reason_to_go_back(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.now += 60
        b.tally = {"engine_deaths": 1.0}
        await b.made.judging.tick()

        verdict = b.history.verdict("1")
        assert verdict is not None
        assert verdict.incidents == {"engine_deaths": 1.0}
        assert verdict.recommends_rollback
        assert b.settings.version.overrides == {"threads": 2}


async def test_what_made_it_surely_worse_goes_back_by_itself_where_that_is_wanted(
    tmp_path: Path,
) -> None:
    told = []

    def tell(change: Change, applied: Applied | None, result: str) -> None:
        told.append((change.id, applied is not None, result))

    async with bench(tmp_path, automatic=lambda: True, on_automatic=tell) as b:
        b.requests(60, 0.02)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(60, 0.04)
        await b.settled()

        assert b.settings.version.overrides == {"threads": 16}
        assert b.settings.version.by == "auto_rollback"
        assert told == [("1", True, "done")]


async def test_what_a_trial_could_not_give_back_is_given_back_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        b.requests(30, 0.02)
        await b.settings.apply({"threads": 2}, by="ci", why="trial:threads-physical")
        await b.made.judging._end_forgotten_trial()

        assert b.settings.version.overrides == {"threads": 16}
        await b.made.judging._end_forgotten_trial()
        assert b.settings.version.number == 3


async def test_an_incident_that_goes_on_is_told_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.made.apply("threads-physical", expected=None, by="ci")
        for minute in range(1, 6):
            b.now += 60
            b.tally = {"throttle_seconds_hw_thermal": 10.0 * minute}
            await b.made.judging.tick()

        assert len(b.verdicts()) == 1


async def test_what_is_not_advised_cannot_be_applied(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(AdviceNotFound):
            await b.made.apply("no-such-rule", expected=None, by="ci")
        with pytest.raises(ChangeRefused, match="not advised any more"):
            await b.made.apply("slots-up", expected=None, by="ci")
        b.settings.version = Version(1, "h1", 0.0, "local", "start", {"threads": 2})
        with pytest.raises(ChangeRefused, match="in force already"):
            await b.made.apply("threads-physical", expected=None, by="ci")
        b.advice.latest = None
        with pytest.raises(ChangeRefused):
            await b.made.apply("threads-physical", expected=None, by="ci")


async def test_a_change_is_taken_back_once_and_with_it_no_later_one_unasked(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(ChangeNotFound):
            await b.made.rollback("1", expected=None, by="ci")
        await b.made.apply("threads-physical", expected=None, by="ci")
        await b.settings.apply({"keep_alive": 60}, by="local", why="configure")
        with pytest.raises(ChangeRefused, match="followed by 2"):
            await b.made.rollback("1", expected=None, by="ci")
        await b.made.rollback("1", expected=None, by="ci", later=True)
        with pytest.raises(ChangeRefused, match="already"):
            await b.made.rollback("1", expected=None, by="ci")


async def test_after_a_restart_no_window_is_open_and_ids_go_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.03)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(60, 0.02)
        await b.settled()

    async with bench(tmp_path) as again:
        await asyncio.to_thread(again.made.judging._close_forgotten)
        assert again.verdicts()[-1] == ("1", "improved", True)
        change, _ = await again.made.apply("threads-physical", expected=None, by="ci")
        assert change.id == "2"


async def test_a_trials_changes_are_no_changes_and_cut_no_window_off(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.requests(40, 0.03)
        await b.made.apply("threads-physical", expected=None, by="ci")
        b.requests(WARM_UP + 30, 0.02)
        await b.settings.apply({"batch_size": 64}, by="ci", why="trial:batch-up")
        b.requests(30, 9.0)
        await b.settings.rollback(2, by="ci", why="trial:back")
        b.requests(15, 0.02)
        await b.settled()

        assert b.made.judging.open == "1"
        changes = [record for record in b.history.records() if isinstance(record, Change)]
        assert len(changes) == 1
        verdict = b.history.verdict("1")
        assert verdict is not None
        assert verdict.effects[METRIC].after == 45


async def test_analyses_are_kept_hourly_and_advice_that_is_dismissed_is_known(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        await b.made.judging.tick()
        b.advice.latest = Analysis(60.0, 1.0, 900.0, 71.0, 0.9, {}, (), ())
        await b.made.judging.tick()
        b.advice.latest = Analysis(3700.0, 1.0, 900.0, 72.0, 0.9, {}, (), ())
        await b.made.judging.tick()
        await b.made.dismiss("slots-up", until=b.now + 10, by="ci")

        kept = [record for record in b.history.records() if isinstance(record, AnalysisMade)]
        assert [record.score for record in kept] == [72.0]
        assert b.made.dismissed() == {"slots-up"}
        b.now += 11
        assert b.made.dismissed() == set()
        await b.made.dismiss("slots-up", until=None, by="ci")
        await b.made.dismiss("slots-up", until=0, by="ci")
        assert b.made.dismissed() == set()
        with pytest.raises(AdviceNotFound):
            await b.made.dismiss("no-such-rule", until=None, by="ci")
