from __future__ import annotations

import numpy as np
import pytest

from service.engine.model import Ids
from service.engine.prefix_cache import PLAIN
from service.engine.recurrence import BLOCK, REMEMBERED_SECONDS, Recurrence
from tests.engine.fake_model import Bench, FakeModel


def prompt(*blocks: int, tail: int = 0) -> Ids:
    """Blocks of one token each, repeated; `tail` further tokens."""
    tokens = [block for block in blocks for _ in range(BLOCK)] + [7] * tail
    return np.array(tokens, np.int32)


def test_what_nobody_asked_before_could_not_be_reused() -> None:
    assert Recurrence().observe(prompt(1, 2), PLAIN, 0.0) == 0


def test_whole_blocks_of_a_common_beginning_count() -> None:
    recurrence = Recurrence()
    recurrence.observe(prompt(1, 2, 3), PLAIN, 0.0)

    assert recurrence.observe(prompt(1, 2, 4, tail=5), PLAIN, 1.0) == 2 * BLOCK


def test_the_same_block_after_another_beginning_does_not_count() -> None:
    recurrence = Recurrence()
    recurrence.observe(prompt(1, 2), PLAIN, 0.0)

    assert recurrence.observe(prompt(3, 2), PLAIN, 1.0) == 0


def test_prompts_of_another_basis_share_nothing() -> None:
    recurrence = Recurrence()
    recurrence.observe(prompt(1), PLAIN, 0.0)

    assert recurrence.observe(prompt(1), ("salt", ()), 1.0) == 0


def test_what_was_asked_long_ago_is_forgotten() -> None:
    recurrence = Recurrence()
    recurrence.observe(prompt(1), PLAIN, 0.0)

    assert recurrence.observe(prompt(1), PLAIN, REMEMBERED_SECONDS + 1) == 0


def test_the_oldest_blocks_go_where_there_are_too_many() -> None:
    recurrence = Recurrence(blocks=2)
    recurrence.observe(prompt(1), PLAIN, 0.0)
    recurrence.observe(prompt(2, 3), PLAIN, 1.0)

    assert recurrence.observe(prompt(1), PLAIN, 2.0) == 0


@pytest.mark.parametrize("cached", [True, False])
def test_an_engine_tells_what_could_have_been_reused_whether_or_not_it_was(cached: bool) -> None:
    bench = Bench(FakeModel(), prefix_cache=cached)
    shared = list(range(1, 101))
    for id in range(2):
        bench.submit(id, [*shared, 200 + id])
        bench.run()

    stats = [step.stats for step in bench.steps()]
    assert sum(step.prefix_reusable_tokens for step in stats) == 100 // BLOCK * BLOCK
    assert (sum(step.prefix_hit_tokens for step in stats) > 0) == cached
