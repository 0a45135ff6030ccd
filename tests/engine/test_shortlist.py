"""A short list of candidates gives the very tokens that the whole vocabulary gives."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from service.engine.llama_candidates import Candidates
from service.engine.llama_chain import Samplers
from service.engine.llama_sampler import LlamaSampler
from service.engine.sampling import shortlist
from service.generation import SamplingParams

N_VOCAB = 32_000 + 77
DRAWS = 40


@pytest.mark.parametrize(
    ("sampling", "enough"),
    [
        (SamplingParams(temperature=0), 1),
        (SamplingParams(temperature=0, logit_bias={5: 3.0}), 1),
        (SamplingParams(top_k=40, top_p=0.9, min_p=0.05, temperature=0.7), 40),
        (SamplingParams(top_k=40, typical_p=0.5, xtc_probability=0.5), 40),
        (SamplingParams(), None),
        (SamplingParams(top_p=0.9), None),
        (SamplingParams(top_k=40, top_n_sigma=1.0), None),
        (SamplingParams(top_k=40, repeat_penalty=1.1), None),
        (SamplingParams(temperature=0, presence_penalty=0.5), None),
        (SamplingParams(top_k=40, mirostat=2), None),
        (SamplingParams(temperature=0, allowed_token_ids=(1,)), None),
    ],
)
def test_how_many_of_the_likeliest_decide(sampling: SamplingParams, enough: int | None) -> None:
    assert shortlist(sampling) == enough


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What llama.cpp would have computed, without a model."""
    row = np.zeros(N_VOCAB, np.float32)
    pointer = row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    monkeypatch.setattr(llama, "llama_get_logits_ith", lambda context, at: pointer)
    monkeypatch.setattr(llama, "llama_vocab_n_tokens", lambda vocab: N_VOCAB)
    return row


def drawn(sampling: SamplingParams, logits: Any, *, short: bool) -> list[int]:
    sampler = LlamaSampler(
        None,
        None,
        Samplers(None),
        Candidates(N_VOCAB),
        None,
        sampling,
        None,
        np.zeros(0, np.int32),
        0,
        n_ctx=64,
        end_tokens={2, 7},
        piece=lambda token: b"",
        tokenize=lambda text: np.zeros(0, np.int32),
    )
    if not short:
        sampler._enough = None
    random = np.random.default_rng(3)
    tokens = []
    for at in range(DRAWS):
        logits[:] = random.normal(0, 2, N_VOCAB)
        # Peaks in one block, at the ends, and on banned tokens.
        logits[[0, 1, 2, 3, 7, N_VOCAB - 1]] += 9 + at % 3
        tokens.append(_sample(sampler))
    return tokens


def _sample(sampler: LlamaSampler) -> int:
    """As `sample`, but on the array alone: there is no context to take logits from."""
    token = sampler._pick(0)
    llama.llama_sampler_accept(sampler._chain, token)
    return token


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=0, ignore_eos=True),
        SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=11),
        SamplingParams(temperature=1.5, top_k=100, seed=12, min_tokens=5),
        SamplingParams(temperature=1.0, top_k=20, typical_p=0.6, seed=13),
        SamplingParams(temperature=1.0, top_k=5, seed=14, logit_bias={9: 12.0, 0: float("-inf")}),
        SamplingParams(temperature=0.9, top_k=1000, seed=15),
    ],
)
def test_the_draws_are_those_of_the_whole_vocabulary(sampling: SamplingParams, logits: Any) -> None:
    assert drawn(sampling, logits, short=True) == drawn(sampling, logits, short=False)


def test_equal_logits_leave_enough_to_choose_from(logits: Any) -> None:
    array = Candidates(N_VOCAB).fill_best(None, 0, 40, np.zeros(0, np.int32))
    assert array.size == N_VOCAB


def test_what_is_not_a_number_is_left_to_the_whole_vocabulary(logits: Any) -> None:
    logits[300] = np.nan
    assert Candidates(N_VOCAB).fill_best(None, 0, 40, np.zeros(0, np.int32)).size == N_VOCAB
