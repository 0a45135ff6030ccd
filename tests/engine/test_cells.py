from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.engine.cells import SharedCells

operations = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("truncate"), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("share"), st.integers(0, 3), st.integers(0, 3)),
    )
)


@given(operations)
def test_a_cell_counts_once_however_many_share_it(plan: list[tuple[str, int, int]]) -> None:
    cells = SharedCells(4)
    model: list[list[object]] = [[] for _ in range(4)]
    for name, slot, argument in plan:
        if name == "extend":
            cells.extend(slot, argument)
            model[slot] += [object() for _ in range(argument)]
        elif name == "truncate":
            cells.truncate(slot, argument)
            del model[slot][argument:]
        elif argument != slot and not model[argument]:
            length = len(model[slot]) // 2
            cells.share(slot, argument, length)
            model[argument] = model[slot][:length]

    assert cells.used == len({id(cell) for held in model for cell in held})
