"""What is too long is cut only where that is allowed, and what was cut is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.intake import MOST_SCORES, cut, detokenized, tokenized
from service.engine.wire import (
    MAX_FRAME_BYTES,
    Admitted,
    Detokenize,
    Detokenized,
    Refused,
    Step,
    Submit,
    Tokenize,
    encode,
)
from service.events import Logprob, PromptLogprobs, TokenLogprobs
from service.generation import SamplingParams, Text, Tokens, Truncation
from service.stats import StepStats
from tests.engine.fake_model import EOG, N_VOCAB, Bench, FakeModel


def ids(length: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.arange(length, dtype=np.int32)


@pytest.mark.parametrize(
    ("truncation", "left"),
    [
        (Truncation(), [4, 5, 6, 7, 8, 9]),
        (Truncation(side="right"), [0, 1, 2, 3, 4, 5]),
        (Truncation(keep=2), [0, 1, 6, 7, 8, 9]),
        (Truncation(limit=3), [7, 8, 9]),
        (Truncation(limit=3, keep=100), [0, 1, 2]),
        (Truncation(limit=100), [4, 5, 6, 7, 8, 9]),
    ],
)
def test_what_is_left_of_ten_tokens_where_six_fit(truncation: Truncation, left: list[int]) -> None:
    assert cut(ids(10), truncation, 6).tolist() == left


@given(
    st.integers(0, 40), st.integers(1, 40), st.integers(0, 50), st.sampled_from(["left", "right"])
)
def test_a_cut_keeps_what_fits_in_its_order(
    length: int, longest: int, keep: int, side: str
) -> None:
    left = cut(ids(length), Truncation(keep=keep, side=side), longest).tolist()  # type: ignore[arg-type]
    assert len(left) == min(length, longest)
    assert left == sorted(set(left))


def test_a_prompt_that_is_cut_says_by_how_much() -> None:
    bench = Bench(FakeModel(n_seq=1, n_ctx=64))
    prompt = Tokens(tuple(range(1, 101)))
    bench.engine.admit(Submit(1, prompt, SamplingParams(max_tokens=1), truncation=Truncation()))
    assert bench.reports == [Admitted(1, 63, cut_tokens=37)]


def test_without_leave_to_cut_it_is_refused_with_its_length() -> None:
    bench = Bench(FakeModel(n_seq=1, n_ctx=64))
    bench.engine.admit(Submit(1, Tokens((1,) * 64), SamplingParams()))
    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.overflow == (64, 64)


@pytest.mark.parametrize(("wanted", "fits"), [(54, True), (55, False)])
def test_an_answer_that_must_fit_is_refused_before_it_is_queued(wanted: int, fits: bool) -> None:
    bench = Bench(FakeModel(n_seq=1, n_ctx=64))
    sampling = SamplingParams(max_tokens=wanted, must_fit=True)
    bench.engine.admit(Submit(1, Tokens((1,) * 10), sampling))

    (answer,) = bench.reports
    assert isinstance(answer, Admitted) is fits
    if isinstance(answer, Refused):
        assert answer.overflow == (10, 64)


def test_who_wants_ids_gets_the_prompts_too() -> None:
    bench = Bench(FakeModel())
    bench.engine.admit(Submit(1, Text("AB"), SamplingParams(token_ids=True, max_tokens=1)))
    assert bench.reports == [Admitted(1, 2, prompt=(65, 66))]


@pytest.mark.parametrize("field", ["logit_bias", "allowed_token_ids", "stop_token_ids"])
def test_a_token_that_the_model_has_not_is_refused_by_the_fields_name(field: str) -> None:
    value = {256: 1.0} if field == "logit_bias" else (256,)
    bench = Bench(FakeModel())
    bench.engine.admit(Submit(1, Tokens((1,)), SamplingParams(**{field: value})))  # type: ignore[arg-type]
    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert refused.param == field


def test_tokens_go_back_to_the_bytes_they_came_from() -> None:
    model = FakeModel()
    model.pieces = {n: bytes([n]) for n in range(256)}
    question = Tokenize(7, Text("Größe"))
    answer = tokenized(model, question)
    assert not isinstance(answer, Refused)
    assert b"".join(answer.pieces) == "Größe".encode()
    back = detokenized(model, Detokenize(8, tuple(answer.tokens)))
    assert back == Detokenized(8, "Größe".encode())


def test_ids_that_the_model_has_not_have_no_text() -> None:
    refused = detokenized(FakeModel(), Detokenize(1, (1, 300)))
    assert isinstance(refused, Refused)
    assert refused.param == "tokens"


BANNED = float("-inf")


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (SamplingParams(allowed_token_ids=(3, 4), logit_bias={3: BANNED, 4: BANNED}), "allowed"),
        (SamplingParams(allowed_token_ids=(EOG,), ignore_eos=True), "allowed"),
        (SamplingParams(allowed_token_ids=(EOG, 5), min_tokens=1, stop_token_ids=(5,)), "allowed"),
        (SamplingParams(allowed_token_ids=(65, 32), bad_words=("A", " ")), "allowed"),
        (SamplingParams(logit_bias=dict.fromkeys(range(N_VOCAB), BANNED)), "logit_bias"),
        (
            SamplingParams(logit_bias=dict.fromkeys(range(1, N_VOCAB), BANNED), min_tokens=1),
            "logit",
        ),
    ],
)
def test_an_answer_that_could_not_begin_is_refused(sampling: SamplingParams, param: str) -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1], sampling)

    (refused,) = bench.reports
    assert isinstance(refused, Refused)
    assert (refused.param or "").startswith(param)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(allowed_token_ids=(EOG,)),
        SamplingParams(allowed_token_ids=(EOG, 5), ignore_eos=True),
        SamplingParams(allowed_token_ids=(EOG,), ignore_eos=True, stop_token_ids=(EOG,)),
        SamplingParams(allowed_token_ids=(3, 4), logit_bias={3: BANNED, 4: -99.0}),
    ],
)
def test_one_token_is_enough_to_begin_with(sampling: SamplingParams) -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1], sampling)

    assert isinstance(bench.reports[0], Admitted)


@pytest.mark.parametrize(("n", "fits"), [(1, True), (2, False)])
def test_log_probabilities_that_fit_into_no_frame_are_refused_by_name(n: int, fits: bool) -> None:
    prompt = Tokens((1,) * 49_000)
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=20)
    bench = Bench(FakeModel(n_seq=1, n_ctx=60_000))
    bench.engine.admit(Submit(1, prompt, sampling, n))

    (answer,) = bench.reports
    assert isinstance(answer, Admitted) is fits
    if isinstance(answer, Refused):
        assert answer.param == "prompt_logprobs"
        assert "2058000" in answer.message


def test_the_most_log_probabilities_that_are_admitted_fit_into_a_frame() -> None:
    """With pieces of 32 bytes, all of them: four times as long as words are."""
    score = Logprob(200_000, b"-" * 32, -12.5)
    entry = TokenLogprobs(score, (score,) * 20)
    scores = PromptLogprobs(0, (entry,) * (MOST_SCORES // 21))
    stats = StepStats(1, "prefill", 0.0, 0.0, 1, 0, 1, 0, 1)

    assert len(encode(Step(stats, [(1, scores)]))) < MAX_FRAME_BYTES


def test_texts_of_more_bytes_than_a_frame_has_are_refused_both_ways() -> None:
    model = FakeModel()
    model.pieces = dict.fromkeys(range(256), b"-" * 4096)
    text, ids = "a" * 20_000, (1,) * 20_000
    for refused in (
        tokenized(model, Tokenize(1, Text(text))),
        detokenized(model, Detokenize(1, ids)),
    ):
        assert isinstance(refused, Refused)
        assert "too large" in refused.message
