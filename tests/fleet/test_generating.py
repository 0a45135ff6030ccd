"""What is known of a request once its engine has let go of it."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from service.engine.wire import Admitted
from service.events import Event, Finished, FinishReason, Timings, TokenEvent, Usage
from service.fleet import endings
from service.fleet.generating import Generation
from service.fleet.stream import EngineStream
from service.stats import RequestStats
from service.text.interpreter import Interpreter
from tests.dialects.fakes import FACTS
from tests.fleet.fakes import card, chat, write_script


class Host:
    """Lets go of nothing by itself."""

    def cancel(self, stream: EngineStream) -> None:
        stream.drop()


async def generation(folder: Path, stream: EngineStream, seen: list[RequestStats]) -> Generation:
    stream.admit(Admitted(stream.id, 5))
    host: Any = Host()
    return Generation(
        msgspec.structs.replace(chat(), n=stream.n),
        card(write_script(folder)),
        FACTS,
        stream.admitted.result(),  # type: ignore[arg-type]
        host,
        stream,
        [Interpreter() for _ in range(stream.n)],
        seen.append,
        lambda: None,
    )


async def test_what_the_service_ended_is_counted_and_timed_by_the_engine(tmp_path: Path) -> None:
    now = time.monotonic()
    stream = EngineStream(1, 1, arrived=now, deadline=now + 9)
    seen: list[RequestStats] = []
    made = await generation(tmp_path, stream, seen)
    async with aclosing(made):
        stream.push(TokenEvent(0, "a", 1, 7), now)
        stream.end(endings.out_of_time(1.0), now + 1)
        told: list[Event] = [event async for event in made]
        # Two more tokens were sampled, and held back, before it heard of the end.
        usage, times = Usage(5, 4, 3), Timings(now, now + 0.1, now + 0.2, now + 1.1, now + 1.2)
        stream.push(Finished(0, FinishReason.CANCELLED, usage, times), now + 1.3)
        stream.settle()

    end = told[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.generation_tokens, end.timings.scheduled) == (
        FinishReason.TIMEOUT,
        1,
        None,
    )
    (stats,) = seen
    assert (stats.reason, stats.error) == (FinishReason.TIMEOUT, "timeout")
    assert stats.usage == usage
    assert stats.timings == times
