from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.context import SNAPSHOTS
from service.engine.snapshots import Snapshot, Snapshots


def kept(snapshots: Snapshots, slot: int) -> list[int]:
    """Lengths, longest first."""
    return sorted((snapshot.length for snapshot in snapshots.of(slot)), reverse=True)


def test_the_longest_that_fits_is_found() -> None:
    snapshots = Snapshots(2)
    for length in (10, 30, 20):
        snapshots.add(0, Snapshot(length, "state"))

    assert snapshots.longest(0, 25) == Snapshot(20, "state")
    assert snapshots.longest(0, 9) is None
    assert snapshots.longest(1, 25) is None


def test_those_used_longest_ago_go_first() -> None:
    snapshots = Snapshots(2)
    first, *rest = (Snapshot(10 * number, number) for number in range(1, 2 * SNAPSHOTS + 2))
    snapshots.add(0, first)
    for snapshot in rest[:-1]:
        snapshots.add(1, snapshot)
    snapshots.use(first)
    snapshots.add(1, rest[-1])

    assert kept(snapshots, 0) == [10]
    assert rest[0].length not in kept(snapshots, 1)
    assert len(snapshots) == 2 * SNAPSHOTS


def test_what_two_slots_share_counts_once_and_stays_while_one_has_it() -> None:
    snapshots = Snapshots(2)
    snapshots.add(0, Snapshot(10, "a"))
    snapshots.add(0, Snapshot(20, "b"))
    snapshots.copy(0, 1)
    snapshots.truncate(1, 15)
    assert (kept(snapshots, 1), len(snapshots)) == ([10], 2)

    snapshots.truncate(0, 0)
    assert (kept(snapshots, 0), kept(snapshots, 1), len(snapshots)) == ([], [10], 1)

    snapshots.swap(0, 1)
    assert (kept(snapshots, 0), kept(snapshots, 1)) == ([10], [])


lengths = st.integers(1, 50)
slots = st.integers(0, 2)
operations = st.one_of(
    st.tuples(st.just("add"), slots, lengths),
    st.tuples(st.just("truncate"), slots, st.integers(0, 50)),
    st.tuples(st.just("copy"), slots, slots),
    st.tuples(st.just("swap"), slots, slots),
)


@given(st.lists(operations, max_size=60))
def test_whatever_happens_no_more_are_held_than_may_be_and_none_is_forgotten_in_part(
    done: list[tuple[str, int, int]],
) -> None:
    snapshots = Snapshots(3)
    for name, *arguments in done:
        if name == "add":
            slot, length = arguments
            snapshots.add(slot, Snapshot(length, object()))
        elif name != "copy" or arguments[0] != arguments[1]:
            getattr(snapshots, name)(*arguments)

    found = {id(one) for slot in range(3) for one in snapshots.of(slot)}
    assert len(found) == len(snapshots) <= 3 * SNAPSHOTS
