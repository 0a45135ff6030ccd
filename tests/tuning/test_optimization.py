"""Advice put in force, taken back and dismissed."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.control.analysis import Analysis
from service.control.config import Applied, Version
from service.control.records import AnalysisMade, Change
from service.control.windows import WARM_UP
from service.errors import AdviceNotFound, ChangeNotFound, ChangeRefused
from tests.optimization_bench import METRIC, bench


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
