"""Outcomes as one markdown table, and as JSON with every round in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.contest import Bar, Outcome

HEAD = ("workload", "figure", "who", "median (range)", "against", "median", "ratio", "bar", "")


def markdown(outcomes: Sequence[Outcome], everything: bool = False) -> str:
    rows = [HEAD, *(row for outcome in outcomes for row in rows_of(outcome, everything))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        + " |\n"
        for row in rows
    )


def rows_of(outcome: Outcome, everything: bool) -> Iterator[tuple[str, ...]]:
    bars = [*outcome.bars]
    if everything or not bars:
        barred = {bar.figure for bar in bars}
        bars += [
            Bar(figure, against=outcome.baseline)
            for figure in figures(outcome)
            if figure not in barred
        ]
    for bar in bars:
        for name in outcome.judged:
            if outcome.values(name, bar.figure):
                yield row(outcome, name, bar)


def figures(outcome: Outcome) -> Iterable[str]:
    """In the order in which they were first seen."""
    return dict.fromkeys(
        figure for rounds in outcome.rounds.values() for found in rounds for figure in found
    )


def row(outcome: Outcome, name: str, bar: Bar) -> tuple[str, ...]:
    values, median = outcome.values(name, bar.figure), outcome.median(name, bar.figure)
    mine = f"{number(median)} ({number(min(values))}–{number(max(values))})"
    start = (outcome.title, bar.figure, name, mine)
    if bar.against is None:
        return (*start, "", "", "", *verdict(bar, median))
    theirs = outcome.median(bar.against, bar.figure)
    ratio = outcome.ratio(name, bar.against, bar.figure)
    return (*start, bar.against, number(theirs), str(ratio), *verdict(bar, ratio.value))


def verdict(bar: Bar, value: float) -> tuple[str, str]:
    if bar.at_least is None and bar.at_most is None:
        return "", ""
    return str(bar), "ok" if bar.met(value) else "MISSED"


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def as_json(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> str:
    content = {
        "machine": machine,
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
