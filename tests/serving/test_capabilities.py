"""What a model can do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.serving.capabilities import capabilities
from tests.dialects.fakes import CARD, FACTS

BARE = replace(CARD, chat_template=None, can_generate=True, can_infill=False, pooling=None)


@pytest.mark.parametrize(
    ("changes", "able"),
    [
        ({}, {"completion"}),
        ({"can_infill": True}, {"completion", "insert"}),
        ({"pooling": "mean"}, {"completion", "embedding"}),
        ({"can_generate": False}, {"embedding"}),
        ({"can_generate": False, "pooling": "rank"}, {"rerank"}),
    ],
)
def test_a_file_says_what_its_model_can_do(changes: dict[str, Any], able: set[str]) -> None:
    assert capabilities(replace(BARE, **changes), None) == able


def test_that_it_fills_in_may_be_known_of_the_loaded_model_alone() -> None:
    assert "insert" not in capabilities(BARE, FACTS)
    assert "insert" in capabilities(BARE, replace(FACTS, infill=("<p>", "<s>", "<m>")))
