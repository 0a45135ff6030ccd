from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.fleet.restarts import Again, GiveUp, Restarts


def test_the_pauses_double() -> None:
    restarts = Restarts()

    assert [restarts.died(float(now)) for now in range(5)] == [
        Again(0.5),
        Again(1.0),
        Again(2.0),
        Again(4.0),
        Again(8.0),
    ]


def test_the_sixth_death_within_ten_minutes_is_one_too_many() -> None:
    restarts = Restarts()
    for now in range(5):
        restarts.died(float(now))

    assert restarts.died(599.0) == GiveUp(until=599.0 + 600.0)


def test_deaths_of_long_ago_do_not_count() -> None:
    restarts = Restarts()

    assert all(restarts.died(now * 1000.0) == Again(0.5) for now in range(50))


def test_after_the_rest_it_begins_anew() -> None:
    restarts = Restarts()
    for now in range(6):
        restarts.died(float(now))

    assert restarts.died(606.0) == Again(0.5)


def test_no_pause_is_longer_than_the_longest() -> None:
    restarts = Restarts(most=100)

    assert (
        max(
            decision.after for now in range(50) if isinstance(decision := restarts.died(now), Again)
        )
        == 30.0
    )


@given(st.lists(st.floats(0, 100), max_size=60))
def test_no_window_sees_more_than_five_restarts(gaps: list[float]) -> None:
    restarts, now, starts = Restarts(), 0.0, []
    for gap in gaps:
        now += gap
        match restarts.died(now):
            case Again(after):
                now += after
                starts.append(now)
            case GiveUp(until):
                now = until
    assert all(sum(start <= at < start + 590.0 for at in starts) <= 6 for start in starts)
