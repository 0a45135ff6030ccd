from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.grafana.asking import BUILT_IN, choose, each, escaped, everything, first, put_in

VARIABLES: Final[list[dict[str, Any]]] = [
    {"type": "datasource", "name": "datasource", "query": "prometheus"},
    {"type": "query", "name": "job", "query": {"query": "label_values(up, job)"}},
    {
        "type": "query",
        "name": "instance",
        "query": {"query": 'label_values(up{job=~"$job"}, instance)'},
    },
]


def values_of(series: str, label: str) -> list[str]:
    return {"up": ["a.b", "c"], 'up{job=~"a\\\\.b"}': ["x"]}.get(series, [label, "y"])


def test_all_is_one_or_more_of_anything() -> None:
    assert choose(VARIABLES, values_of, everything) == {"job": ".+", "instance": ".+"}


def test_a_later_variable_is_asked_for_by_an_earlier() -> None:
    assert choose(VARIABLES, values_of, first) == {"job": r"a\\.b", "instance": "x"}


def test_several_are_alternatives() -> None:
    assert choose(VARIABLES, values_of, each)["job"] == r"(a\\.b|c)"


def test_both_ways_to_write_a_variable_are_read() -> None:
    assert put_in('x{a=~"$job",b=~"${job:regex}"}[$__range]', {"job": "j"}) == (
        f'x{{a=~"j",b=~"j"}}[{BUILT_IN["__range"]}]'
    )


def test_a_variable_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        put_in("$none", {})


@given(st.text(alphabet=r"ab.+*?[]{}()|^$\\'-:/", min_size=1))
def test_an_escaped_value_matches_itself_alone(value: str) -> None:
    pattern = escaped(value).replace("\\\\", "\\")

    assert re.fullmatch(pattern, value)
    assert not re.fullmatch(pattern, value + "a")
