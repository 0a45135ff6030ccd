"""The demo model's vectors, made on the real llama.cpp: at once, in parts, and watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from service.engine.llama_embedding import EmbeddingContext
from service.engine.model import Ids
from tests.engine.child import DEMO

LONG: Ids = np.random.default_rng(5).integers(300, 500, 400).astype(np.int32)
SHORT: Ids = LONG[:7]


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    model = llama.llama_model_load_from_file(str(DEMO).encode(), llama.llama_model_default_params())
    yield model
    llama.llama_model_free(model)


@contextmanager
def opened(model: Any, at_once: int) -> Iterator[EmbeddingContext]:
    context = EmbeddingContext(model, "last", 512, at_once, 1)
    yield context
    llama.llama_free(context.context)


@pytest.fixture(scope="module")
def context(model: Any) -> Iterator[EmbeddingContext]:
    with opened(model, 512) as context:
        yield context


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_an_input_in_parts_has_the_vector_that_it_has_at_once(context: EmbeddingContext) -> None:
    (whole,) = context.embed([LONG])
    begun = [context.embed([LONG[start : start + 150]], start)[0] for start in (0, 150, 300)]

    assert cosine(begun[-1], whole) == pytest.approx(1, abs=1e-4)
    assert cosine(begun[0], whole) < 0.999


def test_inputs_have_the_vectors_that_they_have_where_memory_is_for_less_at_once(
    model: Any, context: EmbeddingContext
) -> None:
    inputs = [LONG[:150], SHORT, LONG[200:]]
    with opened(model, 64) as small:
        vectors = small.embed(inputs)

    for vector, whole in zip(vectors, context.embed(inputs), strict=True):
        assert cosine(vector, whole) == pytest.approx(1, abs=1e-4)


def test_an_input_that_was_broken_off_does_not_show_in_the_next(context: EmbeddingContext) -> None:
    (alone,) = context.embed([SHORT])
    context.embed([LONG[:100]])
    (again, other) = context.embed([SHORT, LONG[:20]])

    assert cosine(again, alone) == pytest.approx(1, abs=1e-4)
    assert cosine(other, alone) < 0.999


def test_it_is_heard_computing_where_somebody_listens(context: EmbeddingContext) -> None:
    heard: list[None] = []
    (watched,) = context.embed([LONG], alive=lambda: heard.append(None))
    count = len(heard)
    (unwatched,) = context.embed([LONG])

    assert count > 20
    assert len(heard) == count
    assert cosine(watched, unwatched) == pytest.approx(1, abs=1e-6)
