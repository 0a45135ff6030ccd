"""What is kept of a family is what the client library writes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from service.telemetry.kept import Kept

VALUES = st.text(max_size=8)
EXEMPLARS = st.none() | st.fixed_dictionaries({"request_id": st.text(max_size=20)})
AMOUNTS = st.floats(min_value=0, max_value=1e9) | st.integers(0, 10**7).map(float)
COUNTED = st.lists(st.tuples(VALUES, VALUES, AMOUNTS, EXEMPLARS), max_size=6)


def counter(*labels: str) -> Kept:
    return Kept(
        Counter("llm_things_total", "Things.\nAll \\ of them.", labels, registry=None), *labels
    )


def histogram(*labels: str) -> Kept:
    of = Histogram("llm_wait_seconds", "Wait.", labels, buckets=(0.1, 1, 1e7), registry=None)
    return Kept(of, *labels)


def count(child: Any, amount: float, exemplar: dict[str, str] | None, made: Any) -> None:
    child.inc(amount, exemplar) if made is counter else child.observe(amount, exemplar)


def written(family: Kept) -> tuple[str, str]:
    """By the library itself."""
    openmetrics: str = generate_openmetrics(family).decode()  # type: ignore[no-untyped-call]
    return generate_latest(family).decode(), openmetrics.removesuffix("# EOF\n")


def kept(family: Kept) -> tuple[str, str]:
    return family.lines(openmetrics=False), family.lines(openmetrics=True)


@pytest.mark.parametrize("made", [counter, histogram])
@given(first=COUNTED, second=COUNTED)
def test_the_lines_are_those_of_the_client_library(made: Any, first: Any, second: Any) -> None:
    family = made("b", "a")

    for counted in (first, second):
        for b, a, amount, exemplar in counted:
            count(family.labels(b, a), amount, exemplar, made)
        assert kept(family) == written(family)


@pytest.mark.parametrize("made", [counter, histogram])
def test_a_family_without_labels_has_lines_from_the_start(made: Any) -> None:
    family = made()
    assert kept(family) == written(family)

    count(family, 3, {"request_id": 'a "b" \\'}, made)
    assert kept(family) == written(family)


def test_what_did_not_change_is_not_written_again() -> None:
    family = histogram("model")
    still, moving = family.labels("still"), family.labels("moving")
    before = still.lines(openmetrics=True)
    moving.observe(1)

    assert still.lines(openmetrics=True) is before
    assert 'model="moving"} 1.0' in moving.lines(openmetrics=True)


def test_an_amount_that_is_refused_changes_nothing() -> None:
    family = counter("model")
    child = family.labels("m")
    before = child.lines(openmetrics=False)

    with pytest.raises(ValueError, match="non-negative"):
        child.inc(-1)
    assert child.lines(openmetrics=False) is before


amounts = st.lists(st.floats(0, 100, allow_nan=False) | st.sampled_from((0.1, 1, 10)), max_size=20)


@given(st.lists(amounts, max_size=5))
def test_what_is_observed_together_counts_as_one_after_the_other(groups: list[list[float]]) -> None:
    together, singly, library = (
        Histogram("llm_x", "x", ["model"], buckets=(0.1, 1, 10), registry=None) for _ in range(3)
    )
    one, other = Kept(together, "model").labels("m"), Kept(singly, "model").labels("m")
    theirs = library.labels("m")
    for group in groups:
        one.observe_each(group)
        for amount in group:
            other.observe(amount)
            theirs.observe(amount)

    assert samples(together) == pytest.approx(samples(library))
    assert samples(singly) == pytest.approx(samples(library))


def samples(family: Histogram) -> list[float]:
    return [sample.value for metric in family.collect() for sample in metric.samples]
