"""Who has to go so that a model can come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from service.fleet.room import (
    LONGEST_TURN_SECONDS,
    SHORTEST_TURN_SECONDS,
    Come,
    Never,
    Resident,
    Wait,
    make_room,
    turn_seconds,
)

NOW = 100.0


def places(count: int, residents: Sequence[Resident]) -> Callable[[Collection[str]], bool]:
    return lambda gone: sum(r.key not in gone for r in residents) < count


def idle(key: str, used: float = 1.0, *, pinned: bool = False) -> Resident:
    return Resident(key, idle=True, used=used, turn_ends=NOW + 9, pinned=pinned)


def busy(key: str, turn_ends: float | None, used: float = 1.0) -> Resident:
    return Resident(key, idle=False, used=used, turn_ends=turn_ends)


def decide(count: int, *residents: Resident) -> Come | Wait | Never:
    return make_room(places(count, residents), residents, NOW)


def test_where_there_is_room_nobody_goes() -> None:
    assert decide(2, idle("a")) == Come()


def test_of_two_idle_ones_the_one_used_longest_ago_goes() -> None:
    assert decide(2, idle("a", used=5), idle("b", used=3)) == Come(("b",))


def test_an_idle_one_goes_before_a_busy_one_whose_turn_is_over() -> None:
    assert decide(2, busy("a", NOW - 1, used=0), idle("b", used=50)) == Come(("b",))


def test_a_busy_one_stays_until_its_turn_is_over() -> None:
    assert decide(2, busy("a", NOW + 4), busy("b", NOW + 2)) == Wait(NOW + 2)
    assert decide(2, busy("a", NOW + 4), busy("b", NOW)) == Come(("b",))


def test_one_that_is_loading_has_not_had_its_turn_yet() -> None:
    assert decide(1, busy("a", None)) == Wait(None)


def test_the_pinned_stay_even_where_nothing_else_can_come() -> None:
    assert decide(1, idle("a", pinned=True)) == Never()
    assert decide(2, idle("a", used=1, pinned=True), idle("b", used=2)) == Come(("b",))


def test_no_more_go_than_have_to() -> None:
    sizes = {"small": 1, "large": 8}
    residents = [idle("small", used=1), idle("large", used=2)]

    def fits(gone: Collection[str]) -> bool:
        return sum(size for key, size in sizes.items() if key not in gone) + 5 <= 9

    assert make_room(fits, residents, NOW) == Come(("large",))


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 99), st.none() | st.floats(90, 110), st.booleans()),
        max_size=6,
    ),
)
def test_whoever_comes_fits_and_nobody_goes_who_has_to_stay(
    count: int, drawn: list[tuple[bool, float, float | None, bool]]
) -> None:
    residents = [
        Resident(str(number), is_idle, used, ends, pinned)
        for number, (is_idle, used, ends, pinned) in enumerate(drawn)
    ]
    fits = places(count, residents)
    decision = make_room(fits, residents, NOW)

    if isinstance(decision, Come):
        going = [r for r in residents if r.key in decision.leaving]
        assert fits(decision.leaving)
        assert not any(r.pinned for r in going)
        assert all(r.idle or (r.turn_ends is not None and r.turn_ends <= NOW) for r in going)
        assert len(going) == max(0, len(residents) - count + 1)
    elif isinstance(decision, Never):
        assert sum(r.pinned for r in residents) >= count
    else:
        assert decision.until is None or decision.until > NOW


def test_a_turn_is_three_loads_within_its_bounds() -> None:
    assert turn_seconds(0.1) == SHORTEST_TURN_SECONDS
    assert turn_seconds(4.0) == 12.0
    assert turn_seconds(600.0) == LONGEST_TURN_SECONDS
