"""The page about memory: its table is whole, and no prediction in it is off by a tenth."""

from __future__ import annotations

import re

from bench.memory import MARK, PAGE, Load, loads, predicted, taken


def test_the_page_has_a_row_for_each_load_and_none_is_far_off() -> None:
    rows = [line for line in PAGE.read_text().partition(MARK)[2].splitlines() if "/" in line]

    assert len(rows) == len(list(loads()))
    for row in rows:
        differences = [float(number) for number in re.findall(r"\(([+-][\d.]+)%\)", row)]
        assert len(differences) == 3, row
        assert all(abs(difference) < 10 for difference in differences), row


def test_what_is_measured_is_what_the_engine_took() -> None:
    load = Load("demo", 1024, 1, "f16", "f16", "on")
    guess, real = predicted(load), taken(load)

    assert abs(guess.cache / real.cache - 1) < 0.01
    assert abs(guess.compute / real.compute - 1) < 0.1
    assert real.anonymous > real.cache
