from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.engine.pacing import (
    LEAST,
    MIN_CHUNK,
    STEP_SECONDS,
    STRETCH,
    BatchPacer,
    PrefillPacer,
    Stretch,
)

DECODE = 0.08
LONG = Stretch(0, 0, 100_000)


def paced(
    decode_seconds: float, first: float, slope: float = 0.0, *, step_tokens: int = 2048
) -> PrefillPacer:
    """It knows a machine where a prompt token costs so much, and more for each token before it."""
    pacer = PrefillPacer(step_tokens)
    for number in range(50):
        depth = number % 12 * 128 + 64
        pacer.observe(0, 0.0, 4, decode_seconds)
        pacer.observe(128, depth, 4, decode_seconds + 128 * (first + slope * depth))
    return pacer


def chunks(pacer: PrefillPacer, begin: int, end: int) -> list[int]:
    """The chunks in which a prompt is computed beside others."""
    done, found = begin, []
    while done < end:
        found.append(min(end - done, pacer.beside(Stretch(begin, done, end))))
        done += found[-1]
    return found


def durations(lengths: list[int], begin: int, first: float, slope: float) -> list[float]:
    found = []
    for length in lengths:
        found.append(length * (first + slope * (begin + length / 2)))
        begin += length
    return found


def test_the_first_step_is_small_since_nothing_is_known_of_the_machine() -> None:
    pacer = PrefillPacer(2048)

    assert pacer.alone(0) == pacer.beside(LONG) == LEAST


def test_a_step_with_a_chunk_lasts_as_often_a_plain_step_as_promised() -> None:
    pacer = paced(0.020, 0.0002)
    duration = 0.020 + pacer.beside(LONG) * 0.0002

    assert 0.95 * STRETCH * 0.020 < duration <= 1.01 * STRETCH * 0.020


def test_a_chunk_is_not_so_small_that_everyone_would_wait_longer_in_all() -> None:
    assert abs(paced(0.010, 0.0035).beside(LONG) - MIN_CHUNK) <= 4


def test_a_prompt_behind_a_short_one_is_computed_in_the_same_step() -> None:
    assert paced(0.010, 0.0035).beside(Stretch(0, 0, 20)) >= MIN_CHUNK - 4


def test_a_small_rest_has_no_step_of_its_own() -> None:
    pacer = paced(DECODE, 0.005)

    assert len(chunks(pacer, 0, 12 * MIN_CHUNK + 4)) == 12
    assert len(chunks(pacer, 0, MIN_CHUNK + 4)) == 1
    assert min(chunks(pacer, 0, 12 * MIN_CHUNK + 100)) > 0.9 * MIN_CHUNK


@given(st.integers(1, 3000), st.floats(0, 2e-6))
def test_no_chunk_but_a_short_prompts_only_one_is_small(length: int, slope: float) -> None:
    lengths = chunks(paced(DECODE, 0.005, slope), 0, length)

    assert len(lengths) == 1 or min(lengths) > MIN_CHUNK // 3


def test_a_prompts_chunks_take_equally_long_though_each_reads_more_than_the_last() -> None:
    first, slope = 0.0045, 0.0000012
    lengths = chunks(paced(DECODE, first, slope), 0, 1540)
    took = durations(lengths, 0, first, slope)

    assert lengths[0] > MIN_CHUNK > lengths[-1]
    assert len(lengths) == round(1540 / MIN_CHUNK)
    assert max(took) < 1.06 * min(took)
    assert max(took) < 0.9 * max(durations([MIN_CHUNK] * len(lengths), 0, first, slope))


@given(
    st.floats(0.001, 1.0),
    st.floats(1e-5, 0.02),
    st.floats(0, 1e-5),
    st.integers(0, 5000),
    st.integers(1, 20_000),
)
def test_no_chunk_is_nothing_and_none_lasts_longer_than_can_be_waited_for(
    decode: float, first: float, slope: float, begin: int, length: int
) -> None:
    pacer = paced(decode, first, slope)
    lengths = chunks(pacer, begin, begin + length)

    assert min(lengths) > 0
    for tokens, seconds in zip(lengths, durations(lengths, begin, first, slope), strict=True):
        assert tokens <= LEAST or seconds < 1.3 * STEP_SECONDS


def test_no_step_lasts_longer_than_can_be_waited_for() -> None:
    pacer = paced(1.0, 0.03)

    assert 0.9 * STEP_SECONDS < pacer.alone(0) * 0.03 <= STEP_SECONDS
    assert pacer.beside(LONG) * 0.03 <= 1.05 * STEP_SECONDS
    assert paced(10.0, 1.0).alone(0) == LEAST


def test_a_step_deep_in_a_long_prompt_carries_less_of_it() -> None:
    pacer = paced(0.08, 0.0045, 0.000002)

    assert pacer.alone(20_000) < pacer.alone(0) / 3


def test_a_fast_machine_computes_whole_steps() -> None:
    assert paced(0.01, 0.00001, step_tokens=512).alone(0) == 512


def test_the_operators_chunk_stands() -> None:
    pacer = PrefillPacer(2048, fixed=100)
    pacer.observe(64, 32, 0, 1.0)

    assert pacer.beside(LONG) == 100


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
