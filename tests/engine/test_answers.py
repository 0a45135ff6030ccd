"""How an answer begins and ends, and what comes with its tokens."""

from __future__ import annotations

import pytest

from service.events import FinishReason, PromptLogprobs, TokenEvent
from service.generation import SamplingParams
from tests.engine.fake_model import EOG, Bench, FakeModel, answer


def test_an_answer_ends_where_the_context_ends() -> None:
    bench = Bench(FakeModel(n_seq=4, n_ctx=1024))
    bench.submit(1, [1] * 250, SamplingParams())
    bench.run()

    assert bench.end(1).reason is FinishReason.LENGTH
    assert bench.end(1).usage.generation_tokens == 6


def test_an_end_token_stops_the_answer_counts_and_has_no_text() -> None:
    model = FakeModel()
    model.next_of = lambda tokens: EOG if len(tokens) == 5 else 65
    bench = Bench(model)
    bench.submit(1, [1, 2, 3])
    bench.run()

    assert bench.text(1) == "<65><65>"
    assert bench.end(1).reason is FinishReason.STOP
    assert bench.end(1).usage.generation_tokens == 3


def test_a_stop_string_across_tokens_ends_the_answer_before_it() -> None:
    model = FakeModel()
    model.pieces = dict.fromkeys(range(1, 256), b"ab")
    bench = Bench(model)
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=20, stop=("bab",)))
    bench.run()

    assert bench.text(1) == "a"
    assert bench.end(1).stop == "bab"
    assert bench.end(1).reason is FinishReason.STOP


def test_a_stop_token_is_named_in_the_end() -> None:
    model = FakeModel()
    model.next_of = lambda tokens: 66 if len(tokens) == 4 else 65
    bench = Bench(model)
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=20, stop_token_ids=(66,)))
    bench.run()

    assert bench.end(1).stop == 66
    assert bench.text(1) == "<65>"


def test_a_code_point_split_between_tokens_comes_out_whole() -> None:
    model = FakeModel()
    emoji = "🦙".encode()
    model.pieces = {10 + i: emoji[i : i + 1] for i in range(4)}
    model.next_of = lambda tokens: 10 + len(tokens) % 4
    bench = Bench(model)
    bench.submit(1, [1] * 4, SamplingParams(max_tokens=8))
    bench.run()

    events = [event for event in bench.outputs(1) if isinstance(event, TokenEvent)]
    assert [(event.text, event.tokens) for event in events] == [("🦙", 4), ("🦙", 4)]


def test_min_tokens_allows_the_end_only_after_them() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2], SamplingParams(max_tokens=8, min_tokens=5))
    for _ in range(4):
        bench.engine.step()
    assert not bench.model.samplers[0].end_allowed
    bench.run()

    assert bench.model.samplers[0].end_allowed


def test_logprobs_come_with_the_text_they_belong_to() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2], SamplingParams(max_tokens=3, logprobs=2, token_ids=True))
    bench.run()

    events = [event for event in bench.outputs(1) if isinstance(event, TokenEvent)]
    tokens = [entry.chosen.token for event in events for entry in event.logprobs]
    assert tokens == answer([1, 2], 3) == [id for event in events for id in event.ids]
    assert all(len(entry.top) == 2 for event in events for entry in event.logprobs)


def test_a_stop_string_takes_its_tokens_logprobs_with_it() -> None:
    model = FakeModel()
    model.pieces = dict.fromkeys(range(1, 256), b"ab")
    bench = Bench(model)
    bench.submit(1, [1, 2], SamplingParams(max_tokens=20, stop=("bab",), logprobs=0))
    bench.run()

    events = [event for event in bench.outputs(1) if isinstance(event, TokenEvent)]
    assert sum(len(event.logprobs) for event in events) == 1


@pytest.mark.parametrize("length", [1, 2, 50, 200])
def test_prompt_logprobs_cover_every_token_but_the_first(length: int) -> None:
    bench = Bench(FakeModel())
    prompt = [(i * 7) % 255 + 1 for i in range(length)]
    bench.submit(1, prompt, SamplingParams(max_tokens=1, prompt_logprobs=1))
    bench.run()

    (event,) = [event for event in bench.outputs(1) if isinstance(event, PromptLogprobs)]
    assert event.tokens[0] is None
    assert [entry.chosen.token for entry in event.tokens if entry] == prompt[1:]


def test_nothing_is_generated_where_nothing_was_asked_for() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3], SamplingParams(max_tokens=0, prompt_logprobs=0))
    bench.run()

    assert bench.end(1).usage.generation_tokens == 0
    assert bench.end(1).reason is FinishReason.LENGTH


def test_stop_strings_are_looked_for_after_min_tokens() -> None:
    model = FakeModel()
    model.pieces = dict.fromkeys(range(256), b"a")
    bench = Bench(model)
    bench.submit(1, [1, 2], SamplingParams(max_tokens=8, min_tokens=3, stop=("aa",)))
    bench.run()

    assert bench.text(1) == "aaa"
    assert bench.end(1).reason is FinishReason.STOP
    assert bench.end(1).usage.generation_tokens == 5
