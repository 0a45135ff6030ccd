from __future__ import annotations

import pytest

from bench.shapes import SHAPES, Shape

VOCABULARY = {"qwen2": 151_936, "llama-spm": 32_000}


def parameters(shape: Shape) -> int:
    embedding = VOCABULARY[shape.vocabulary] * shape.width * (1 if shape.tied else 2)
    attention = shape.width * (2 * shape.width + 2 * shape.head * shape.kv_heads)
    return embedding + shape.layers * (attention + 3 * shape.width * shape.feed_forward)


@pytest.mark.parametrize(
    ("name", "millions"), [("0.5B", 494), ("1.1B", 1100), ("15M", 15.2)], ids=SHAPES
)
def test_a_model_is_as_large_as_the_one_whose_shape_it_has(name: str, millions: float) -> None:
    assert parameters(SHAPES[name]) / 1e6 == pytest.approx(millions, rel=0.005)


def test_every_model_has_a_folder_of_its_own() -> None:
    assert len({shape.path.parent for shape in SHAPES.values()}) == len(SHAPES)
