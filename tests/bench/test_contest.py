from __future__ import annotations

import json
import math

import pytest

from bench.client import Target
from bench.contest import Bar, Contest, Measure, Outcome, begun, hold
from bench.over_http import BATCHED_BENCH, Entrants, batched_bench_figures, decode, turns
from bench.table import as_json, markdown


async def test_contestants_are_interleaved_and_each_round_begins_with_another() -> None:
    turn: list[tuple[int, str]] = []

    def contestant(name: str) -> Measure:
        async def measure(number: int) -> dict[str, float]:
            turn.append((number, name))
            return {"tokens/s": 1.0}

        return measure

    contest = Contest("work", {name: contestant(name) for name in "ab"}, ("a",))
    outcome = begun(contest)
    await hold(contest, outcome, 1)
    await hold(contest, outcome, 2)

    assert turn == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert len(outcome.rounds["a"]) == len(outcome.load_average) == 3


def outcome(ours: list[float], theirs: list[float], *bars: Bar) -> Outcome:
    rounds = {
        "ours": [{"tokens/s": value, "TTFT p50 ms": 1.0} for value in ours],
        "theirs": [{"tokens/s": value, "TTFT p50 ms": 2.0} for value in theirs],
    }
    return Outcome("work", ("ours",), bars, "theirs", rounds)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_a_row_holds_medians_their_ratio_and_whether_the_bar_is_met() -> None:
    bar = Bar("tokens/s", at_least=1.5, against="theirs")

    head, rule, row = cells(markdown([outcome([90, 60, 61], [39, 41, 40], bar)]))

    assert len(head) == len(rule) == len(row)
    assert row[:4] == ["work", "tokens/s", "ours", "61 (60–90)"]
    assert row[4:] == ["theirs", "40", "1.52", ">= 1.5", "ok"]


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar("tokens/s", at_least=1.53, against="theirs"), "MISSED"),
        (Bar("tokens/s", at_most=1.5, against="theirs"), "MISSED"),
        (Bar("tokens/s", at_most=61), "ok"),
        (Bar("tokens/s", at_least=62), "MISSED"),
    ],
)
def test_a_bar_is_for_a_ratio_or_for_the_figure_itself(bar: Bar, verdict: str) -> None:
    *_, row = cells(markdown([outcome([61], [40], bar)]))

    assert row[-2:] == [str(bar), verdict]


def test_of_what_is_short_each_round_is_held_against_itself() -> None:
    """In the second round the machine is twice as fast, and nobody gains by it."""
    paired = outcome(
        [99, 202, 99], [100, 200, 100], Bar("tokens/s", at_least=0.99, against="theirs")
    )
    paired.paired = True

    *_, row = cells(markdown([paired]))

    assert row[6:] == ["0.997 ± 0.007", ">= 0.99", "ok"]


def test_a_round_in_which_one_measured_nothing_is_no_pair() -> None:
    paired = outcome([90, 95, 97], [100, 100, 100])
    paired.paired = True
    paired.rounds["theirs"][0].clear()

    assert paired.ratio("ours", "theirs", "tokens/s").value == pytest.approx(0.96, abs=0.0001)
    paired.rounds["theirs"][1].clear()
    assert math.isnan(paired.ratio("ours", "theirs", "tokens/s").value)


def test_what_was_not_measured_meets_no_bar() -> None:
    assert not Bar("x", at_least=0.5).met(math.nan)
    assert not Bar("x", at_most=0.5).met(math.nan)


def test_figures_without_a_bar_are_shown_on_demand_or_where_there_is_no_bar() -> None:
    bar = Bar("tokens/s", at_least=1.5, against="theirs")

    assert "TTFT" not in markdown([outcome([61], [40], bar)])
    assert "TTFT" in markdown([outcome([61], [40], bar)], everything=True)
    assert "TTFT" in markdown([outcome([61], [40])])


def test_json_keeps_every_round() -> None:
    found = json.loads(as_json([outcome([61, 62], [40, 41])], {"cores": 2}))

    assert found["machine"] == {"cores": 2}
    assert [one["tokens/s"] for one in found["outcomes"][0]["rounds"]["ours"]] == [61, 62]


def entrants(*names: str, baseline: str | None) -> Entrants:
    return Entrants("m", tuple(Target(name, "http://127.0.0.1:1") for name in names), baseline, 0)


def test_a_server_alone_is_judged_by_its_own_figures_only() -> None:
    (alone,) = turns(entrants("a", baseline=None))
    (held,) = turns(entrants("a", "b", "c", baseline="a"))

    assert alone.judged == ("a",)
    assert [bar.figure for bar in alone.bars] == ["cached share of repeatable"]
    assert held.judged == ("b", "c")
    assert [bar.against for bar in held.bars] == [None, "a", "a"]


def test_without_llama_batched_bench_nothing_is_held_against_it() -> None:
    contests = list(decode(entrants("a", "b", baseline="a")))

    assert [contest.title.split(",")[1] for contest in contests] == [
        " 1 client",
        " 4 clients",
        " 8 clients",
    ]
    assert all(BATCHED_BENCH not in contest.contestants for contest in contests)
    assert all([bar.against for bar in contest.bars] == ["a"] for contest in contests)


def test_llama_batched_benchs_last_line_counts() -> None:
    output = 'loading\n{"pl": 8, "speed_pp": 420.5, "speed_tg": 66.7}\n'

    assert batched_bench_figures(output) == {"decode tokens/s": 66.7, "prefill tokens/s": 420.5}
