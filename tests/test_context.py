from __future__ import annotations

import pytest

from service.context import choose_context, choose_layout
from service.facts import KVLayout

GIB = 1 << 30


def choose(
    asked: int | None = None,
    *,
    n_seq: int = 4,
    n_ctx_train: int = 4096,
    memory: int = 16 * GIB,
    layout: KVLayout = "auto",
    windowed: bool = False,
) -> tuple[int, str]:
    n_ctx = choose_context(
        asked,
        n_seq=n_seq,
        n_ctx_train=n_ctx_train,
        bytes_per_token=12_288,
        memory_bytes=memory,
    )
    return n_ctx, choose_layout(
        layout, n_ctx, n_seq=n_seq, n_ctx_train=n_ctx_train, windowed=windowed
    )


def test_every_sequence_gets_the_trained_length_where_memory_allows() -> None:
    assert choose(n_seq=4) == (16_384, "split")


def test_a_large_context_is_shared_where_each_cannot_have_its_own() -> None:
    assert choose(n_ctx_train=131_072, n_seq=4) == (131_072, "unified")


def test_little_memory_means_a_smaller_context() -> None:
    total, layout = choose(n_ctx_train=131_072, memory=GIB)

    assert total * 12_288 <= GIB // 4
    assert layout == "unified"


def test_a_chosen_context_is_shared_unless_each_share_holds_all_the_model_knows() -> None:
    assert choose(8192, n_seq=4) == (8192, "unified")
    assert choose(16_384, n_seq=4) == (16_384, "split")


def test_cells_that_cannot_be_moved_are_shared() -> None:
    assert choose(16_384, n_seq=4, windowed=True) == (16_384, "unified")
    assert choose(4096, n_seq=1, windowed=True) == (4096, "split")
    assert choose(16_384, n_seq=4, windowed=True, layout="split") == (16_384, "split")


@pytest.mark.parametrize("layout", ["split", "unified"])
def test_the_operators_layout_stands(layout: KVLayout) -> None:
    assert choose(8192, layout=layout) == (8192, layout)
