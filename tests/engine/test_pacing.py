from __future__ import annotations

from service.engine.pacing import LEAST, MIN_CHUNK, STEP_SECONDS, STRETCH, BatchPacer, PrefillPacer


def paced(decode_seconds: float, token_seconds: float, step_tokens: int = 2048) -> PrefillPacer:
    pacer = PrefillPacer(step_tokens)
    for _ in range(50):
        pacer.observe(0, 4, decode_seconds)
        pacer.observe(128, 4, decode_seconds + 128 * token_seconds)
    return pacer


def test_the_first_step_is_small_since_nothing_is_known_of_the_machine() -> None:
    pacer = PrefillPacer(2048)

    assert pacer.alone == pacer.beside == LEAST


def test_a_step_with_a_chunk_lasts_as_often_a_plain_step_as_promised() -> None:
    pacer = paced(0.020, 0.0002)
    duration = 0.020 + pacer.beside * 0.0002

    assert 0.9 * STRETCH * 0.020 < duration <= STRETCH * 0.020


def test_a_chunk_is_not_so_small_that_everyone_would_wait_longer_in_all() -> None:
    assert paced(0.010, 0.0035).beside == MIN_CHUNK


def test_no_step_lasts_longer_than_can_be_waited_for() -> None:
    pacer = paced(1.0, 0.03)

    assert pacer.alone * 0.03 <= STEP_SECONDS
    assert pacer.beside <= pacer.alone
    assert paced(10.0, 1.0).alone == LEAST


def test_a_fast_machine_computes_whole_steps() -> None:
    assert paced(0.01, 0.00001, step_tokens=512).alone == 512


def test_the_operators_chunk_stands() -> None:
    pacer = PrefillPacer(2048, fixed=100)
    pacer.observe(64, 0, 1.0)

    assert pacer.beside == 100


def test_a_batch_of_inputs_keeps_to_the_same_rules() -> None:
    pacer = BatchPacer(8192)
    assert pacer.alone == pacer.beside(None) == pacer.beside(0.02) == LEAST
    pacer.observe(32, 32 * 0.001)

    assert 0.9 * STEP_SECONDS < pacer.alone * 0.001 <= STEP_SECONDS
    assert 0.9 * STRETCH * 0.05 < 0.05 + pacer.beside(0.05) * 0.001 <= STRETCH * 0.05
    assert pacer.beside(0.001) == MIN_CHUNK
    assert pacer.beside(10.0) == pacer.alone


def test_what_the_first_batch_costs_beside_its_tokens_is_soon_forgotten() -> None:
    pacer = BatchPacer(8192)
    pacer.observe(32, 10.0)
    assert pacer.alone == LEAST
    pacer.observe(32, 32 * 0.001)
    assert pacer.alone * 0.001 > 0.9 * STEP_SECONDS
    for _ in range(50):
        pacer.observe(1000, 1000 * 0.01)

    assert pacer.alone * 0.01 <= 1.01 * STEP_SECONDS
