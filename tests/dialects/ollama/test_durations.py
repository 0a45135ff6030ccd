from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.fields import Fields
from service.dialects.ollama.durations import FOR_EVER, UNITS, duration, parse_keep_alive
from service.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (300, 300.0),
        (0.5, 0.5),
        (-1, FOR_EVER),
        (-0.001, FOR_EVER),
        (10**19, FOR_EVER),
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("300ms", 0.3),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("+2s", 2.0),
        ("1h0m0.5s", 3600.5),
        ("10\N{MICRO SIGN}s", 1e-5),
        ("-1m", FOR_EVER),
        ("-1", FOR_EVER),
        ("300", 300.0),
        ("9999999h", FOR_EVER),
    ],
)
def test_each_way_to_say_how_long_is_understood(value: Any, seconds: float | None) -> None:
    assert parse_keep_alive(Fields({"keep_alive": value})) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "m", "5 m", "5x", "1h-5m", "--1s", "1e3s", "five", "5m ", "1" * 65, True, [], {}]
)
def test_what_is_no_duration_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="keep_alive") as caught:
        parse_keep_alive(Fields({"keep_alive": value}))

    assert caught.value.param == "keep_alive"


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4
    )
)
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)

    assert duration(text) == pytest.approx(sum(number * UNITS[unit] for number, unit in parts))


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert duration(text) is None or isinstance(duration(text), float)
