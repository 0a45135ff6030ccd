"""Who comes first, and who may share with whom: priorities, salts and adapters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.scheduler import MOST_OVERTAKING
from service.engine.wire import Embed, Refused
from service.events import Embedding, Finished
from service.generation import SamplingParams, Selection, Tokens
from tests.engine.fake_model import LAYOUTS, SHARED, Bench, FakeModel, answer

prompts = st.lists(st.integers(1, 4), min_size=1, max_size=40)


def test_prefixes_are_shared_only_under_the_same_salt(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout))
    for id, salt in enumerate(["", "a", "b", "a", ""], 1):
        bench.submit(id, [*SHARED, 200 + id], cache_salt=salt)
    bench.run()
    bench.submit(6, [*SHARED, 250], cache_salt="c")
    bench.submit(7, [*SHARED, 251], cache_salt="b")
    bench.run()

    cached = [bench.end(id).usage.cached_tokens for id in range(1, 8)]
    assert [tokens > 90 for tokens in cached] == [False, False, False, True, True, False, True]
    assert [tokens for tokens in cached if tokens <= 90] == [0, 0, 0, 0]
    for id in range(1, 6):
        assert bench.tokens(id) == answer([*SHARED, 200 + id], 8)


def test_the_more_urgent_are_taken_first_and_equals_in_their_order() -> None:
    bench = Bench(FakeModel(n_seq=1))
    for id, priority in enumerate([0, 5, 0, -1, 5, -1]):
        bench.submit(id, [id + 1], priority=priority)
    bench.run()
    first = {id: bench.end(id).timings.scheduled or 0.0 for id in range(6)}

    assert sorted(first, key=first.__getitem__) == [3, 5, 0, 2, 1, 4]


def test_nobody_is_overtaken_for_ever() -> None:
    bench = Bench(FakeModel(n_seq=1))
    one = SamplingParams(max_tokens=1)
    bench.submit(0, [1], one)
    bench.submit(1, [2], one, priority=1)
    for id in range(2, 2 * MOST_OVERTAKING):
        bench.submit(id, [id], one)
    bench.run()
    ends = [request for step in bench.steps() for request, event in step.outputs
            if isinstance(event, Finished)]  # fmt: skip

    assert ends.index(1) == MOST_OVERTAKING + 1


def test_the_least_urgent_gives_its_cells_up_first() -> None:
    """Three fill the context: one must go, and it is not the youngest."""
    bench = Bench(FakeModel(n_seq=3, n_ctx=60, layout="unified"))
    for id, priority in enumerate([0, 9, 0]):
        bench.submit(id, [id + 1] * 15, SamplingParams(max_tokens=15), priority=priority)
    bench.run()

    last = {id: bench.end(id).timings.last_token or 0.0 for id in range(3)}
    assert sum(step.stats.preemptions for step in bench.steps()) > 0
    assert max(last, key=last.__getitem__) == 1
    for id in range(3):
        assert bench.tokens(id) == answer([id + 1] * 15, 15)


def test_a_step_computes_one_selection_of_adapters_and_each_answer_is_its_own(layout: str) -> None:
    model = FakeModel(n_seq=6, layout=layout, adapters=2)
    bench = Bench(model)
    selections: list[Selection] = [(), ((0, 1.0),), ((1, 0.5),), ((0, 1.0), (1, 0.5)), ((0, 1.0),)]
    for id, adapters in enumerate(selections):
        bench.submit(id, SHARED, adapters=adapters)
    bench.run()

    for id, adapters in enumerate(selections):
        assert bench.tokens(id) == answer(SHARED, 8, adapters)
    assert set(model.applied) == set(selections)
    assert [bench.end(id).usage.cached_tokens for id in range(5)] == [0, 0, 0, 0, 99]


def test_equal_selections_are_one_however_they_are_written() -> None:
    model = FakeModel(adapters=2)
    bench = Bench(model)
    bench.submit(1, SHARED, adapters=((1, 0.5), (0, 1.0)))
    bench.submit(2, SHARED, adapters=((0, 1.0), (1, 0.5)))
    bench.submit(3, [*SHARED, 1], adapters=((0, 0.0),))
    bench.run()

    assert set(model.applied) == {((0, 1.0), (1, 0.5)), ()}
    assert bench.end(2).usage.cached_tokens > 90


@pytest.mark.parametrize("adapters", [((2, 1.0),), ((-1, 1.0),), ((0, math.nan),)])
def test_an_adapter_that_is_not_there_is_refused(adapters: Selection) -> None:
    bench = Bench(FakeModel(adapters=2))
    bench.submit(1, [1, 2], adapters=adapters)

    assert bench.reports == [Refused(1, "the model has 2 of them", "adapters")]


def test_vectors_are_made_with_the_adapters_that_were_asked_for() -> None:
    model = FakeModel(adapters=1)
    bench = Bench(model)
    for id, adapters in enumerate([(), ((0, 1.0),), ((0, 1.0),), ()]):
        bench.engine.embed(Embed(id, (Tokens((1, 2)),), normalize=False, adapters=adapters))
    bench.run()
    made = [
        np.frombuffer(event.vector, "<f4").tolist()
        for id in range(4)
        for event in bench.outputs(id)
        if isinstance(event, Embedding)
    ]

    assert made == [[3, 2], [1003, 1002], [1003, 1002], [3, 2]]
    assert [len(batch) for batch in model.embedded] == [1, 2, 1]


selections = st.sampled_from([(), ((0, 1.0),), ((1, 1.0),), ((0, 0.5), (1, 1.0))])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(prompts, st.integers(1, 20), st.integers(0, 6), selections),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(LAYOUTS),
    st.sampled_from([60, 64 * 4]),
)
def test_under_whatever_load_each_answer_is_of_its_own_adapters(
    requests: list[tuple[list[int], int, int, Selection]], layout: str, n_ctx: int
) -> None:
    n_ctx = max(n_ctx, 256) if layout == "split" else n_ctx
    bench = Bench(FakeModel(n_ctx=n_ctx, layout=layout, adapters=2), prefill_chunk=8)
    for id, (prompt, length, pause, adapters) in enumerate(requests):
        bench.submit(id, prompt, SamplingParams(max_tokens=length), adapters=adapters)
        for _ in range(pause):
            bench.engine.step()
    bench.run()

    for id, (prompt, length, _, adapters) in enumerate(requests):
        assert bench.tokens(id) == answer(prompt, length, adapters)[: n_ctx - len(prompt)]
