"""Which requests have waited for too long."""

from __future__ import annotations

from service.engine.wire import Admitted
from service.events import TokenEvent
from service.fleet.deadlines import overdue
from service.fleet.limits import Limits
from service.fleet.queue_places import Places
from service.fleet.stream import Ending, EngineStream

LIMITS = Limits(queue_timeout=60.0, reader_timeout=30.0)


def stream() -> EngineStream:
    made = EngineStream(1, 1, arrived=100.0, deadline=1000.0)
    made.queue_deadline = 160.0
    return made


def code(of: EngineStream, now: float) -> str | None:
    ending: Ending | None = overdue(of, now, LIMITS, Places(4))
    return ending.code if ending is not None else None


async def test_who_waits_in_the_queue_waits_no_longer_than_was_said() -> None:
    waiting = stream()

    assert code(waiting, 159.9) is None
    assert code(waiting, 160.0) == "queue_timeout"


async def test_who_waits_for_a_load_is_not_yet_in_the_queue() -> None:
    loading = stream()
    loading.queue_deadline = None

    assert code(loading, 999.9) is None
    assert code(loading, 1000.0) == "timeout"


async def test_a_reader_has_so_long_for_what_has_come() -> None:
    reading = stream()
    reading.admit(Admitted(1, 5))
    reading.push(TokenEvent(0, "a", 1, 1), 200.0)

    assert code(reading, 230.0) is None
    assert code(reading, 230.1) == "slow_reader"
    await reading.take()
    assert code(reading, 999.0) is None


async def test_what_is_closed_is_never_overdue() -> None:
    over = stream()
    ending = overdue(over, 1000.0, LIMITS, Places(4))
    assert ending is not None
    over.end(ending, 1000.0)

    assert code(over, 2000.0) is None
