"""What is said of changes, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.control.records import Change
from service.control.windows import SECONDS, WARM_UP
from tests.optimization_bench import METRIC, bench


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
