from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.fleet.queue_places import Places


def test_a_request_takes_a_place_for_each_answer() -> None:
    places = Places(4)

    assert places.take(3)
    assert not places.take(2)
    assert places.take(1)
    places.give_back(3, 0.0)
    assert places.take(3)


def test_a_client_is_told_when_half_of_the_queue_will_be_done() -> None:
    places = Places(40)
    for _ in range(40):
        places.take(1)
    for second in range(20):
        places.give_back(1, float(second))

    assert places.retry_after(20.0) == 10.0


def test_without_any_experience_a_client_is_told_five_seconds() -> None:
    assert Places(4).retry_after(1.0) == 5.0


def test_what_finished_long_ago_is_no_experience() -> None:
    places = Places(4)
    places.take(1)
    places.give_back(1, 0.0)

    assert places.retry_after(1000.0) == 5.0


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 50)), max_size=60), st.integers(1, 50))
def test_there_are_never_more_than_there_are(steps: list[tuple[int, float]], capacity: int) -> None:
    places, held, now = Places(capacity), [], 0.0
    for n, gap in steps:
        now += gap
        if places.take(n):
            held.append(n)
        elif held:
            places.give_back(held.pop(0), now)
        assert places.taken == sum(held) <= capacity
        assert 1.0 <= places.retry_after(now) <= 60.0
