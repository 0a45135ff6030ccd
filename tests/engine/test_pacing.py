from __future__ import annotations

from service.engine.pacing import FIRST_CHUNK, MIN_CHUNK, STRETCH, PrefillPacer


def test_before_anything_is_measured_the_chunk_is_a_guess() -> None:
    assert PrefillPacer(2048).chunk == FIRST_CHUNK


def test_a_step_with_a_chunk_lasts_as_often_a_plain_step_as_promised() -> None:
    pacer = PrefillPacer(2048)
    for _ in range(50):
        pacer.observe(0, 4, 0.060)
        pacer.observe(128, 4, 0.060 + 128 * 0.0035)

    duration = 0.060 + pacer.chunk * 0.0035
    assert 0.8 * STRETCH * 0.060 < duration <= STRETCH * 0.060


def test_the_chunk_stays_within_its_bounds() -> None:
    slow, fast = PrefillPacer(512), PrefillPacer(512)
    slow.observe(0, 1, 0.001)
    slow.observe(64, 1, 1.0)
    fast.observe(0, 1, 1.0)
    fast.observe(64, 1, 1.001)

    assert slow.chunk == MIN_CHUNK
    assert fast.chunk == 512


def test_the_operators_chunk_stands() -> None:
    pacer = PrefillPacer(2048, fixed=100)
    pacer.observe(0, 1, 0.001)
    pacer.observe(64, 1, 1.0)

    assert pacer.chunk == 100
