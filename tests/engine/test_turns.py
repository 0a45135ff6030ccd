"""Which selection of adapters the next step computes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.engine.turns import TURN_STEPS, Turns
from service.generation import Selection

SELECTIONS: list[Selection] = [(), ((0, 1.0),), ((0, 0.5),), ((1, 1.0),), ((0, 1.0), (1, 1.0))]
present = st.sets(st.sampled_from(SELECTIONS), min_size=1)


def test_alone_a_selection_has_every_step() -> None:
    turns = Turns()

    assert {turns.next([SELECTIONS[1]] * 3) for _ in range(20)} == {SELECTIONS[1]}


def test_two_take_turns_of_some_steps_each() -> None:
    turns = Turns()
    a, b = SELECTIONS[:2]
    steps = [turns.next([a, b]) for _ in range(4 * TURN_STEPS)]

    assert steps == ([a] * TURN_STEPS + [b] * TURN_STEPS) * 2


def test_whoever_comes_while_one_has_its_turn_goes_before_it() -> None:
    turns = Turns()
    a, b, c = SELECTIONS[:3]
    turns.next([a])
    rest = [turns.next([a, b, c]) for _ in range(3 * TURN_STEPS - 1)]

    assert rest == [a] * (TURN_STEPS - 1) + [b] * TURN_STEPS + [c] * TURN_STEPS


@given(st.lists(present, max_size=60), st.sampled_from(SELECTIONS))
def test_none_that_stays_is_passed_over_for_long(
    others: list[set[Selection]], patient: Selection
) -> None:
    turns, waited = Turns(), 0
    for there in others:
        chosen = turns.next([*there, patient])
        assert chosen in there | {patient}
        waited = 0 if chosen == patient else waited + 1
        assert waited <= (len(SELECTIONS) - 1) * TURN_STEPS
