from __future__ import annotations

import numpy as np
import pytest

from service.engine.sampling import takes_whole_distribution
from service.engine.whole_distribution import WholeDistribution
from service.generation import SamplingParams

LOGITS = np.linspace(-1, 1, 1300, dtype=np.float32)


def draws(logits: np.ndarray, count: int, temperature: float = 1.0, seed: int = 1) -> list[int]:
    sampler = WholeDistribution(lambda row: logits, len(logits), temperature, seed)
    return [sampler.sample(0) for _ in range(count)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    scaled = LOGITS / temperature
    probabilities = np.exp(scaled) / np.exp(scaled).sum()
    drawn = np.bincount(draws(LOGITS, 20_000, temperature), minlength=len(LOGITS))
    # In 13 classes of 100 tokens, chi-square with 12 degrees of freedom: 32.9 is its 0.1 % bound.
    expected = probabilities.reshape(13, 100).sum(axis=1) * 20_000
    seen = drawn.reshape(13, 100).sum(axis=1)

    assert ((seen - expected) ** 2 / expected).sum() < 32.9


def test_the_seed_decides_the_draws() -> None:
    assert draws(LOGITS, 20, seed=5) == draws(LOGITS, 20, seed=5)
    assert draws(LOGITS, 20, seed=5) != draws(LOGITS, 20, seed=6)


@pytest.mark.parametrize("size", [1, 5, 511, 512, 513, 1024])
def test_no_token_outside_the_vocabulary_is_drawn(size: int) -> None:
    assert max(draws(np.zeros(size, np.float32), 500)) < size


def test_a_token_ruled_out_is_never_drawn() -> None:
    logits = np.full(1000, -np.inf, np.float32)
    logits[[3, 700]] = 0.0

    assert set(draws(logits, 100)) == {3, 700}


def test_a_cold_temperature_takes_the_likeliest() -> None:
    assert set(draws(np.arange(50, dtype=np.float32), 50, temperature=1e-3)) == {49}


def test_it_is_taken_only_where_nothing_cuts_biases_or_bans() -> None:
    assert takes_whole_distribution(SamplingParams(temperature=0.7, seed=3, stop=("a",)))
    for cut in (
        SamplingParams(temperature=0),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.9),
        SamplingParams(presence_penalty=0.1),
        SamplingParams(logit_bias={1: 1.0}),
        SamplingParams(min_tokens=1),
        SamplingParams(ignore_eos=True),
    ):
        assert not takes_whole_distribution(cut)
