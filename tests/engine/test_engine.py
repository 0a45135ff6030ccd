"""Prefixes, cells, slots and steps: whatever arrives, each answer is what it would be alone."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import slots
from service.engine.slots import WORTH_MOVING, WORTH_WAITING
from service.engine.wire import Admitted, Cancel, Refused, SetThreads, Step, ThreadsSet
from service.events import Finished, FinishReason
from service.generation import SamplingParams
from service.stats import StepStats
from tests.engine.fake_model import LAYOUTS, SHARED, Bench, FakeModel, answer


def test_a_prompt_is_answered_token_by_token(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout))
    bench.submit(1, [5, 6, 7])
    bench.run()

    assert bench.tokens(1) == answer([5, 6, 7], 8)
    assert bench.end(1).reason is FinishReason.LENGTH
    assert bench.end(1).usage.prompt_tokens == 3
    assert bench.end(1).usage.generation_tokens == 8


def test_admission_is_answered_before_the_first_step() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [5, 6, 7])

    assert bench.reports == [Admitted(1, 3)]


def test_a_batch_of_requests_gets_the_answers_each_would_get_alone(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout))
    prompts = {id: [id] * (id + 3) for id in range(1, 11)}
    for id, prompt in prompts.items():
        bench.submit(id, prompt, SamplingParams(max_tokens=3 + id))
    bench.run()

    for id, prompt in prompts.items():
        assert bench.tokens(id) == answer(prompt, 3 + id)


def test_a_prefix_in_flight_is_computed_once_for_all(layout: str) -> None:
    model = FakeModel(layout=layout)
    bench = Bench(model)
    for id in range(4):
        bench.submit(id, [*SHARED, 200 + id])
    bench.run()

    for id in range(4):
        assert bench.tokens(id) == answer([*SHARED, 200 + id], 8)
    cached = [bench.end(id).usage.cached_tokens for id in range(4)]
    # The last few tokens are not worth another step of waiting.
    assert cached[0] == 0
    assert all(100 - WORTH_WAITING < count <= 100 for count in cached[1:])
    assert model.computed_tokens == 4 * 101 - sum(cached) + 4 * 7


def test_who_waits_for_a_prefix_is_told_from_who_waits_for_a_slot(layout: str) -> None:
    def step_of_three(n_seq: int) -> StepStats:
        bench = Bench(FakeModel(n_seq=n_seq, layout=layout))
        for id in range(3):
            bench.submit(id, [*SHARED, 200 + id])
        bench.engine.step()
        return bench.steps()[-1].stats

    both = [(stats.waiting, stats.waiting_for_prefix) for stats in map(step_of_three, (1, 4))]
    assert both == [(2, 0), (2, 2)]


def test_n_answers_share_one_prefill(layout: str) -> None:
    model = FakeModel(layout=layout)
    bench = Bench(model)
    bench.submit(1, SHARED, n=3)
    bench.run()

    assert model.computed_tokens <= 100 + 2 * WORTH_WAITING + 3 * 7
    for index in range(3):
        assert bench.tokens(1, index) == answer(SHARED, 8)
        assert bench.end(1, index).index == index


def test_a_finished_conversation_is_taken_up_where_it_ended(layout: str) -> None:
    bench = Bench(FakeModel(layout=layout))
    bench.submit(1, SHARED)
    bench.run()
    longer = [*SHARED, *answer(SHARED, 8), 9, 9]
    bench.submit(2, longer)
    bench.run()

    assert bench.end(2).usage.cached_tokens == 107
    assert bench.tokens(2) == answer(longer, 8)


def test_the_prefix_cache_can_be_turned_off(layout: str) -> None:
    model = FakeModel(n_seq=2, layout=layout)
    bench = Bench(model, prefix_cache=False)
    for id in range(5):
        bench.submit(id, SHARED)
        bench.run()

    assert [bench.end(id).usage.cached_tokens for id in range(5)] == [0] * 5
    assert [bench.tokens(id) for id in range(5)] == [answer(SHARED, 8)] * 5
    assert (bench.steps()[-1].stats.kv_tokens, model.slots) == (0, [[], []])


def test_running_streams_decode_while_a_long_prompt_is_computed_in_chunks() -> None:
    bench = Bench(FakeModel(n_ctx=4096), prefill_chunk=32)
    bench.submit(1, [1], SamplingParams(max_tokens=100))
    bench.engine.step()
    bench.submit(2, list(range(1, 256)) * 2)
    for _ in range(10):
        bench.engine.step()

    mixed = [step.stats for step in bench.steps() if step.stats.phase == "mixed"]
    assert len(mixed) == 10
    assert all(stats.prefill_tokens == 32 and stats.decode_tokens == 1 for stats in mixed)
    assert mixed[-1].prefill_progress == ((2, 320),)


@pytest.mark.parametrize("n_batch", [100, 4, 2])
def test_a_step_has_no_more_rows_than_the_batch(layout: str, n_batch: int) -> None:
    """llama.cpp makes the batch as small as the context, whatever was asked for."""
    bench = Bench(FakeModel(n_batch=n_batch, layout=layout), n_batch=2048, n_ubatch=512)
    for id in range(4):
        bench.submit(id, list(range(1 + id, 200)))
    bench.run()

    for id in range(4):
        assert bench.tokens(id) == answer(list(range(1 + id, 200)), 8)


def test_a_sequence_preempted_for_lack_of_cells_still_gets_its_answer() -> None:
    bench = Bench(FakeModel(n_ctx=300, layout="unified"))
    for id in (1, 2, 3):
        bench.submit(id, [id] * 60, SamplingParams(max_tokens=100))
    bench.run()

    for id in (1, 2, 3):
        assert bench.tokens(id) == answer([id] * 60, 100)
    assert sum(step.stats.preemptions for step in bench.steps()) > 0


def test_kept_prefixes_are_given_up_before_anyone_is_preempted() -> None:
    bench = Bench(FakeModel(n_ctx=300, layout="unified"))
    for id in (1, 2):
        bench.submit(id, [id] * 100)
        bench.run()
    bench.submit(3, [3] * 150, SamplingParams(max_tokens=20))
    bench.run()

    assert bench.tokens(3) == answer([3] * 150, 20)
    assert sum(step.stats.preemptions for step in bench.steps()) == 0
    assert sum(step.stats.evictions for step in bench.steps()) > 0


def test_active_slots_are_kept_without_gaps_so_that_no_pass_over_the_weights_is_wasted() -> None:
    model = FakeModel(n_seq=6, n_ctx=6000)
    bench = Bench(model)
    for id in range(6):
        bench.submit(id, [id + 1] * 20, SamplingParams(max_tokens=100 if id in (0, 3, 5) else 5))
    bench.run()

    # Near their ends it would cost more than it saves.
    assert not any(model.gaps[:-WORTH_MOVING])
    assert len(model.gaps) > 100
    for id in (0, 3, 5):
        assert bench.tokens(id) == answer([id + 1] * 20, 100)


def test_a_cancelled_request_ends_within_a_step_and_leaves_its_neighbour_alone(
    layout: str,
) -> None:
    bench = Bench(FakeModel(layout=layout))
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=50))
    bench.submit(2, [4, 5, 6], SamplingParams(max_tokens=50))
    for _ in range(10):
        bench.engine.step()
    bench.engine.cancel(Cancel(2))
    bench.engine.step()

    assert bench.end(2).reason is FinishReason.CANCELLED
    bench.run()
    assert bench.tokens(1) == answer([1, 2, 3], 50)
    assert bench.model.samplers[1].freed == 1


@pytest.mark.parametrize("steps", [0, 1], ids=["queued", "in prefill"])
def test_a_request_can_be_cancelled_before_its_first_token(steps: int) -> None:
    bench = Bench(FakeModel(n_seq=1))
    bench.submit(1, [1] * 200)
    for _ in range(steps):
        bench.engine.step()
    bench.engine.cancel(Cancel(1))
    bench.run()

    assert bench.end(1).reason is FinishReason.CANCELLED
    assert bench.end(1).timings.first_token is None
    assert bench.tokens(1) == []


def test_threads_change_with_the_next_step_and_are_reported_before_it() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=20))
    for _ in range(5):
        bench.engine.step()
    bench.engine.set_threads(SetThreads(7, engines=2))
    seen = len(bench.reports)
    bench.engine.step()

    assert [type(report) for report in bench.reports[seen:]] == [ThreadsSet, Step]
    assert bench.reports[seen] == ThreadsSet(7)
    assert bench.model.engines == 2
    bench.run()
    assert bench.tokens(1) == answer([1, 2, 3], 20)


def test_cancelling_what_is_not_there_does_nothing() -> None:
    bench = Bench(FakeModel())
    bench.engine.cancel(Cancel(99))
    bench.run()

    assert bench.reports == []


def test_more_requests_than_slots_wait_their_turn(layout: str) -> None:
    bench = Bench(FakeModel(n_seq=2, layout=layout))
    for id in range(7):
        bench.submit(id, [id + 1] * 5)
    bench.engine.step()

    assert (bench.steps()[-1].stats.running, bench.steps()[-1].stats.waiting) == (2, 5)
    bench.run()
    assert all(bench.tokens(id) == answer([id + 1] * 5, 8) for id in range(7))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "empty"), ([256], "0..255"), ([-1], "0..255")],
    ids=["empty", "beyond the vocabulary", "negative"],
)
def test_a_prompt_that_llama_cpp_would_abort_on_is_refused(prompt: list[int], message: str) -> None:
    bench = Bench(FakeModel())
    bench.submit(1, prompt)

    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert message in refused.message


def test_a_prompt_longer_than_a_sequence_is_refused_with_both_numbers() -> None:
    bench = Bench(FakeModel(n_seq=4, n_ctx=1024))
    bench.submit(1, [1] * 256)

    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.overflow == (256, 256)


def test_the_last_report_says_that_nothing_runs() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=50))
    bench.engine.step()
    bench.engine.cancel(Cancel(1))
    bench.engine.step()

    assert bench.steps()[-1].stats.phase == "idle"
    assert bench.steps()[-1].stats.running == 0


def test_stamps_are_in_order() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3])
    bench.run()

    t = bench.end(1).timings
    assert t.scheduled is not None
    assert t.first_token is not None
    assert t.last_token is not None
    assert t.finished is not None
    assert t.queued <= t.scheduled <= t.first_token <= t.last_token <= t.finished


prompts = st.lists(st.integers(1, 4), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(prompts, st.integers(1, 20), st.integers(0, 6)), min_size=1, max_size=12),
    st.sampled_from(LAYOUTS),
    st.sampled_from([60, 64 * 4]),
    st.sampled_from([512, 32, 2]),
    st.sampled_from([0, 0, 4, 12]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_whatever_arrives_whenever_each_answer_is_what_it_would_be_alone(
    requests: list[tuple[list[int], int, int]],
    layout: str,
    n_ctx: int,
    n_batch: int,
    window: int,
    can_rollback: bool,
    prefix_cache: bool,
    data: st.DataObject,
) -> None:
    """Prefixes shared, copied, swapped, evicted, preempted and cancelled: no answer ever changes."""
    n_ctx = max(n_ctx, 256) if layout == "split" else n_ctx
    model = FakeModel(
        n_ctx=n_ctx, layout=layout, n_batch=n_batch, window=window, can_rollback=can_rollback
    )
    bench = Bench(model, prefill_chunk=8, prefix_cache=prefix_cache)
    cancelled = set()
    # The prompts are short, and snapshots shall be taken of them.
    with patch.object(slots, "WORTH_KEEPING", 4):
        for id, (prompt, length, pause) in enumerate(requests):
            bench.submit(id, prompt, SamplingParams(max_tokens=length))
            for _ in range(pause):
                bench.engine.step()
            if data.draw(st.booleans()) and id:
                victim = data.draw(st.integers(0, id - 1))
                bench.engine.cancel(Cancel(victim))
                cancelled.add(victim)
        bench.run()

    for id, (prompt, length, _) in enumerate(requests):
        expected = answer(prompt, length)
        ends = [event for event in bench.outputs(id) if isinstance(event, Finished)]
        assert len(ends) == 1
        if id in cancelled:
            assert bench.tokens(id) == expected[: len(bench.tokens(id))]
        else:
            assert bench.tokens(id) == expected[: n_ctx - len(prompt)]
    stats = bench.steps()[-1].stats
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.kv_tokens == (model._used() if layout == "unified" else sum(map(len, model.slots)))
