from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.wire import (
    MAX_FRAME_BYTES,
    Admitted,
    Cancel,
    Command,
    EngineParams,
    FrameDecoder,
    Load,
    ProtocolError,
    Report,
    Step,
    Submit,
    encode,
)
from service.events import Finished, FinishReason, Timings, TokenEvent, Usage
from service.generation import Grammar, SamplingParams, Text, Tokens
from service.stats import StepStats

STATS = StepStats(7, "mixed", 0.1, 0.0002, 64, 3, 4, 0, 512, (0.1, 0.2), 80, 16, 1, 0, ((9, 64),))
STEP = Step(
    STATS,
    [
        (9, TokenEvent(0, "héllo", 2, 55)),
        (9, Finished(0, FinishReason.STOP, Usage(3, 1, 2), Timings(1.0, 2.0), stop="\n")),
    ],
)
COMMANDS: list[Command] = [
    Load(EngineParams("/m.gguf", n_ctx=4096, tensor_split=(0.5, 0.5))),
    Submit(1, Text("hi"), SamplingParams(stop=("a",), logit_bias={3: -100.0})),
    Submit(2, Tokens((1, 2, 3)), SamplingParams(), n=2, grammar=Grammar('root ::= "a"')),
    Cancel(1),
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_messages_come_out_whole_however_the_bytes_arrive(cuts: list[int]) -> None:
    data = b"".join(encode(command) for command in COMMANDS)
    decoder: FrameDecoder[Command] = FrameDecoder(Command)
    received: list[Command] = []
    for cut in [*cuts, len(data)]:
        received += decoder.feed(data[:cut])
        data = data[cut:]

    assert received == COMMANDS


def test_a_step_survives_the_way() -> None:
    decoder: FrameDecoder[Report] = FrameDecoder(Report)

    assert decoder.feed(encode(STEP) + encode(Admitted(1, 2))) == [STEP, Admitted(1, 2)]


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_and_nothing_else(data: bytes) -> None:
    frame = len(data).to_bytes(4, "little") + data
    try:
        decoder: FrameDecoder[Report] = FrameDecoder(Report)
        messages = decoder.feed(frame)
    except ProtocolError:
        return
    assert all(isinstance(message, Report) for message in messages)


def test_a_frame_that_claims_too_much_is_refused_before_it_is_buffered() -> None:
    with pytest.raises(ProtocolError, match="frame of"):
        FrameDecoder(Report).feed((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def test_one_direction_does_not_take_the_others_messages() -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder(Report).feed(encode(Cancel(1)))
