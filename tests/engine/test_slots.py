"""Pasts that cannot be cut back, or only while they last: what of them serves the next prompt."""

from __future__ import annotations

from service.engine.slots import ENDING
from service.generation import SamplingParams
from tests.engine.fake_model import SHARED, Bench, FakeModel, answer


def test_what_is_gone_from_a_window_is_computed_again(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout, window=16))
    bench.submit(1, SHARED)
    bench.run()
    bench.submit(2, [*SHARED, *answer(SHARED, 8), 9])
    bench.submit(3, [*SHARED[:50], 77, 78])
    bench.run()

    assert bench.end(2).usage.cached_tokens == 107
    assert bench.end(3).usage.cached_tokens == 0
    assert bench.tokens(3) == answer([*SHARED[:50], 77, 78], 8)


def test_what_is_gone_from_a_slot_is_gone_from_its_copy_before_that_is_made(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout, window=16, n_ctx=2048))
    long = [*SHARED, *SHARED]
    bench.submit(1, long, SamplingParams(max_tokens=60))
    for _ in range(4):
        bench.engine.step()
    prompts = {2: [*long, 250], 3: [*SHARED[:60], 251]}
    for id, prompt in prompts.items():
        bench.submit(id, prompt)
    bench.run()

    assert bench.end(2).usage.cached_tokens == len(long)
    assert bench.end(3).usage.cached_tokens == 0
    for id, prompt in prompts.items():
        assert bench.tokens(id) == answer(prompt, 8)


def test_nobody_waits_for_what_a_window_has_lost_already(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout, window=16, n_ctx=4096), prefill_chunk=32)
    bench.submit(1, [5, 6], SamplingParams(max_tokens=90))
    bench.engine.step()
    bench.submit(2, [*SHARED, *([9] * 700)])
    for _ in range(8):
        bench.engine.step()
    bench.submit(3, [*SHARED[:60], 251])
    for _ in range(4):
        bench.engine.step()

    assert bench.steps()[-1].stats.running == 3


def test_a_model_that_cannot_roll_back_reuses_whole_states_only() -> None:
    bench = Bench(FakeModel(can_rollback=False))
    bench.submit(1, SHARED)
    bench.run()
    bench.submit(2, [*SHARED, *answer(SHARED, 8), 9])
    bench.submit(3, [*SHARED[:50], 77, 78])
    bench.run()

    assert bench.end(2).usage.cached_tokens == 107
    assert bench.end(3).usage.cached_tokens == 0
    assert bench.tokens(3) == answer([*SHARED[:50], 77, 78], 8)


def test_a_conversation_goes_on_from_before_its_last_prompts_end(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout, can_rollback=False))
    bench.submit(1, SHARED)
    bench.run()
    # A template shows the answer without its thoughts: it begins in another way.
    turn = [*SHARED[: -ENDING + 1], 201, 202, 203]
    bench.submit(2, turn)
    bench.run()

    assert bench.end(2).usage.cached_tokens == len(SHARED) - ENDING
    assert bench.tokens(2) == answer(turn, 8)


def test_where_prompts_part_a_state_is_kept_for_the_third(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout, can_rollback=False))
    prompts = [[*SHARED, *range(100 + id, 150 + id)] for id in range(1, 5)]
    for id, prompt in enumerate(prompts):
        bench.submit(id, prompt)
        bench.run()

    cached = [bench.end(id).usage.cached_tokens for id in range(4)]
    assert cached == [0, 0, 100, 100]
    assert [bench.tokens(id) for id in range(4)] == [answer(prompt, 8) for prompt in prompts]


def test_of_prompts_that_begin_alike_and_come_together_the_beginning_is_computed_once(
    layout: str,
) -> None:
    model = FakeModel(layout=layout, can_rollback=False)
    bench = Bench(model)
    prompts = [[*SHARED, 200 + id] for id in range(4)]
    for id, prompt in enumerate(prompts):
        bench.submit(id, prompt)
    bench.run()

    assert [bench.tokens(id) for id in range(4)] == [answer(prompt, 8) for prompt in prompts]
    assert model.computed_tokens < 2 * len(SHARED) + 4 * 8
