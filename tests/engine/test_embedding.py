"""Texts become vectors, beside what is generated and without touching it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.embedding import EmbeddingJob, EmbeddingQueue, normalized
from service.engine.pacing import MIN_CHUNK, STEP_SECONDS
from service.engine.scheduler import MOST_OVERTAKING
from service.engine.wire import Admitted, Cancel, Computing, Embed, EngineParams, Refused
from service.events import Embedding, Finished, FinishReason
from service.generation import SamplingParams, Text, Tokens, Truncation
from tests.engine import child as children
from tests.engine.child import Child
from tests.engine.fake_model import Bench, FakeModel, answer
from tests.long_model import long_model


def vectors(bench: Bench, id: int) -> dict[int, list[float]]:
    events = (event for event in bench.outputs(id) if isinstance(event, Embedding))
    return {event.index: np.frombuffer(event.vector, "<f4").tolist() for event in events}


def embed(id: int, *inputs: list[int], **given: object) -> Embed:
    tokens = tuple(Tokens(tuple(ids)) for ids in inputs)
    return Embed(id, tokens, **{"normalize": False} | given)  # type: ignore[arg-type]


def paced(token_seconds: float, longest: int = 64, **facts: object) -> Bench:
    """On a model whose tokens of inputs take so long each, by its own clock."""
    model = FakeModel()
    model.facts = msgspec.structs.replace(model.facts, n_embed_input=longest, **facts)
    model.token_seconds = token_seconds
    return Bench(model, clock=lambda: model.now)


def test_each_input_gets_its_vector_and_the_request_one_end() -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, [1, 2, 3], [10], [4, 4]))
    assert bench.reports[0] == Admitted(1, 6)
    bench.run()
    assert vectors(bench, 1) == {0: [6.0, 3.0], 1: [10.0, 1.0], 2: [8.0, 2.0]}
    assert bench.end(1).reason is FinishReason.STOP
    assert bench.end(1).usage.prompt_tokens == 6


def test_vectors_are_cut_before_they_are_normalized() -> None:
    bench = Bench(FakeModel())
    bench.model.facts = msgspec.structs.replace(bench.model.facts, n_embd=2)
    bench.engine.embed(embed(1, [3, 1], normalize=True))
    bench.engine.embed(embed(2, [3, 1], normalize=True, dimensions=1))
    bench.run()
    assert vectors(bench, 1)[0] == pytest.approx([4 / 20**0.5, 2 / 20**0.5])
    assert vectors(bench, 2)[0] == [1.0]


def test_a_stream_goes_on_beside_a_long_list_of_inputs() -> None:
    bench = paced(1e-6)
    bench.submit(1, [5, 6, 7], SamplingParams(max_tokens=8))
    bench.engine.embed(embed(2, *[[n] * 20 for n in range(12)]))
    bench.run()
    assert bench.tokens(1) == answer([5, 6, 7], 8)
    assert len(vectors(bench, 2)) == 12
    busy = [step for step in bench.steps() if any(id == 2 for id, _ in step.outputs)]
    assert len(busy) == 5, (
        "one alone, to learn what it costs; then three each, of at most 64 tokens"
    )
    assert all(any(id == 1 for id, _ in step.outputs) for step in busy)


def test_inputs_of_several_requests_share_a_batch() -> None:
    model = FakeModel()
    bench = Bench(model)
    for id in (1, 2, 3):
        bench.engine.embed(embed(id, [id]))
    bench.run()
    assert model.embedded == [[[1], [2], [3]]]


def test_a_cancelled_request_ends_and_the_next_has_its_turn() -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, *[[1] * 60] * 5))
    bench.engine.embed(embed(2, [2]))
    for _ in range(2):
        bench.engine.step()
    bench.engine.cancel(Cancel(1))
    bench.run()
    assert bench.end(1).reason is FinishReason.CANCELLED
    assert len(vectors(bench, 1)) == 1
    assert vectors(bench, 2) == {0: [2.0, 1.0]}


def test_without_memory_the_request_ends_and_the_engine_lives() -> None:
    model = FakeModel()
    model.embedding_fails = True
    bench = Bench(model)
    bench.engine.embed(embed(1, *[[1] * 60] * 3))
    bench.submit(2, [1], SamplingParams(max_tokens=2))
    bench.run()
    assert (bench.end(1).reason, bench.end(1).error) == (FinishReason.ERROR, "no memory")
    assert bench.tokens(2) == answer([1], 2)


@pytest.mark.parametrize(
    ("inputs", "param"),
    [([[]], "input"), ([[1], []], "input"), ([[256]], "input"), ([[-1]], "input")],
)
def test_what_is_no_input_is_refused_by_name(inputs: list[list[int]], param: str) -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, *inputs))
    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.param == param


def test_an_input_too_long_is_refused_with_its_length_or_cut_where_that_is_allowed() -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, [1], [2] * 65))
    bench.engine.embed(embed(2, [1] * 60 + [9] * 10, truncation=Truncation()))
    bench.run()
    assert bench.reports[0] == Refused(1, "an input is too long", overflow=(65, 64))
    assert bench.reports[1] == Admitted(2, 64, cut_tokens=6)
    assert vectors(bench, 2) == {0: [54.0 + 90.0, 64.0]}


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        (Truncation(limit=5, side="right"), [1, 97, 98, 99, 2]),
        (Truncation(limit=5), [1, 102, 103, 104, 2]),
        (Truncation(limit=2), [1, 2]),
        (Truncation(limit=10), [1, *range(97, 105), 2]),
    ],
)
def test_the_marks_around_a_text_stay_around_what_is_left_of_it(
    truncation: Truncation, kept: list[int]
) -> None:
    model = FakeModel()
    model.marks = ([1], [2])
    bench = Bench(model)
    bench.engine.embed(Embed(1, (Text("abcdefgh"),), truncation=truncation))
    bench.run()
    assert model.embedded == [[kept]]
    assert bench.reports[0] == Admitted(1, len(kept), cut_tokens=10 - len(kept))


def test_a_text_that_is_sent_without_marks_is_cut_without_them() -> None:
    model = FakeModel()
    model.marks = ([1], [2])
    bench = Bench(model)
    text = Text("abcdefgh", add_special_tokens=False)
    bench.engine.embed(Embed(1, (text,), truncation=Truncation(limit=3, side="right")))
    bench.run()
    assert model.embedded == [[[97, 98, 99]]]


def test_a_limit_below_the_marks_is_refused_by_name() -> None:
    model = FakeModel()
    model.marks = ([1], [2])
    bench = Bench(model)
    bench.engine.embed(Embed(1, (Text("abc"),), truncation=Truncation(limit=1)))
    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.param == "truncate_prompt_tokens"


def test_more_dimensions_than_the_model_has_are_refused() -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, [1], dimensions=2))
    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.param == "dimensions"


def test_steps_count_the_tokens_of_inputs_and_end_idle() -> None:
    bench = Bench(FakeModel())
    bench.engine.embed(embed(1, [1, 2, 3]))
    bench.engine.step()
    (step,) = bench.steps()
    assert (step.stats.phase, step.stats.prefill_tokens, step.stats.waiting) == ("prefill", 3, 0)


def test_no_batch_lasts_longer_than_a_step_may() -> None:
    bench = paced(0.012, longest=4096)
    bench.engine.embed(embed(1, *[[1] * 50] * 20))
    bench.run()
    assert len(vectors(bench, 1)) == 20
    assert [len(batch) for batch in bench.model.embedded[:-1]] == [1, 1, *[3] * 6]
    assert all(step.stats.decode_seconds <= STEP_SECONDS for step in bench.steps())


def test_a_long_input_of_a_causal_model_is_computed_in_parts_beside_a_stream() -> None:
    bench = paced(0.01, longest=4096)
    bench.submit(1, [5, 6, 7], SamplingParams(max_tokens=40))
    bench.engine.step()
    bench.engine.embed(embed(2, [9], [7] * 2000, [8]))
    bench.run()
    assert vectors(bench, 2) == {0: [9, 1], 1: [14000, 2000], 2: [8, 1]}
    assert bench.tokens(1) == answer([5, 6, 7], 40)
    progress = [
        tokens for step in bench.steps() for id, tokens in step.stats.prefill_progress if id == 2
    ]
    parts = [
        step for step in bench.steps() if any(id == 2 for id, _ in step.stats.prefill_progress)
    ]
    assert all(any(id == 1 for id, _ in step.outputs) for step in parts)
    assert all(step.stats.decode_seconds <= STEP_SECONDS for step in parts)
    assert progress == [*range(1 + MIN_CHUNK, 2001, MIN_CHUNK)]
    assert not [report for report in bench.reports if isinstance(report, Computing)]


def test_what_cannot_be_split_gives_signs_of_life() -> None:
    bench = paced(0.01, longest=4096, can_generate=False, pooling="mean")
    bench.engine.embed(embed(1, [7] * 2000, [8]))
    bench.run()
    assert vectors(bench, 1) == {0: [14000, 2000], 1: [8, 1]}
    signs = [report for report in bench.reports if isinstance(report, Computing)]
    assert 15 <= len(signs) <= 20
    assert set(signs) == {Computing((1,))}


def test_an_input_that_is_cancelled_between_its_parts_leaves_nothing_behind() -> None:
    bench = paced(0.01)
    bench.engine.embed(embed(1, [7] * 64))
    bench.engine.embed(embed(2, [8] * 64))
    bench.engine.step()
    assert bench.steps()[-1].stats.running == 1
    bench.engine.cancel(Cancel(1))
    bench.run()
    assert bench.end(1).reason is FinishReason.CANCELLED
    assert (vectors(bench, 1), vectors(bench, 2)) == ({}, {0: [512, 64]})


lengths = st.lists(st.lists(st.integers(1, 16), min_size=1, max_size=9), max_size=6)


@given(lengths, st.booleans(), st.integers(1, 20))
def test_every_token_is_in_exactly_one_batch_and_no_batch_is_larger_than_it_has_to_be(
    requests: list[list[int]], split: bool, most: int
) -> None:
    queue = EmbeddingQueue(most_inputs=3, split=split)
    for number, sizes in enumerate(requests):
        inputs = [np.ones(size, np.int32) for size in sizes]
        queue.add(EmbeddingJob(number, inputs, True, None, 0.0))
    seen: dict[tuple[int, int], int] = {}
    while queue:
        batch = queue.next_batch(most)
        assert 0 < len(batch) <= 3
        assert len(batch) == 1 or all(part.start == 0 and part.ends for part in batch)
        assert sum(len(part.ids) for part in batch) <= most or (len(batch) == 1 and not split)
        for part in batch:
            assert part.start == seen.get((part.job.request, part.number), 0)
            seen[part.job.request, part.number] = part.end
    expected = {(n, i): size for n, sizes in enumerate(requests) for i, size in enumerate(sizes)}
    assert list(seen.items()) == list(expected.items())


def test_a_vector_of_zeros_has_no_direction_and_stays() -> None:
    assert normalized(np.zeros(3, np.float32)).tolist() == [0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with children.child(EngineParams(str(children.DEMO), n_ctx=4096, n_seq=2)) as child:
        yield child


def test_the_real_model_gives_equal_vectors_to_equal_texts(child: Child) -> None:
    same, again, other = child.embed("one two three", "one two three", "Berlin!")
    assert len(same) == child.facts.n_embd
    assert float(np.linalg.norm(same)) == pytest.approx(1, abs=1e-5)
    assert float(same @ again) == pytest.approx(1, abs=1e-4)
    assert float(same @ other) < 0.999


def test_an_input_beside_a_text_does_not_change_the_answer(child: Child) -> None:
    prompt = "<|im_start|>user\nWhat is 7 + 5?<|im_end|>\n<|im_start|>assistant\n"
    alone = child.submit(prompt)
    (before,) = child.collect(alone)[alone]  # type: ignore[misc]
    beside = child.submit(prompt)
    child.send(Embed(1000, tuple(Text("a b c " * 20) for _ in range(40))))
    answers = child.collect(beside, 1000)
    (after,), (embedded,) = answers[beside], answers[1000]  # type: ignore[misc]
    assert after.text == before.text
    assert len(embedded.embeddings) == 40
    assert isinstance(embedded.end, Finished)


def test_a_decoder_that_looks_both_ways_embeds_like_an_encoder(tmp_path: Path) -> None:
    header = {"llama__attention__causal": False, "llama__pooling_type": 1}
    path = long_model(tmp_path / "both.gguf", **header)
    with children.child(EngineParams(str(path), n_ctx=256, n_seq=1)) as child:
        assert (child.facts.can_generate, child.facts.pooling) == (False, "mean")
        one, same, other = child.embed("one two three", "one two three", "four")

    assert float(one @ same) == pytest.approx(1, abs=1e-4)
    assert float(one @ other) < 0.999


def order(queue: EmbeddingQueue) -> list[int]:
    parts = []
    while queue:
        parts += [part.job.request for part in queue.next_batch(1)]
    return parts


def job(request: int, priority: int = 0, inputs: int = 1) -> EmbeddingJob:
    texts = [np.ones(1, np.int32)] * inputs
    return EmbeddingJob(request, texts, True, None, 0.0, priority=priority)


def test_the_urgent_come_before_what_waits_and_behind_what_has_begun() -> None:
    queue = EmbeddingQueue(most_inputs=1, split=False)
    queue.add(job(1, inputs=2))
    queue.next_batch(1)
    for request, priority in ((2, 0), (3, -1), (4, 5), (5, -1)):
        queue.add(job(request, priority))
    assert order(queue) == [1, 3, 5, 2, 4]


def test_nobody_is_overtaken_for_ever() -> None:
    queue = EmbeddingQueue(most_inputs=1, split=False)
    queue.add(job(0))
    for request in range(1, MOST_OVERTAKING + 3):
        queue.add(job(request, priority=-1))
    assert order(queue).index(0) == MOST_OVERTAKING
