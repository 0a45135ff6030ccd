"""Which requests have waited for too long, for whatever it is. Pure: the time is an argument."""

from __future__ import annotations

from service.fleet import endings
from service.fleet.limits import Limits
from service.fleet.queue_places import Places
from service.fleet.stream import Ending, EngineStream


def overdue(stream: EngineStream, now: float, limits: Limits, places: Places) -> Ending | None:
    """How it has to end now: (1) out of time, (2) without a turn, (3) with a reader that does not
    read."""
    if stream.closed:
        return None
    if now >= stream.deadline:  # (1)
        return out_of_time(stream)
    queue_deadline = stream.queue_deadline
    if queue_deadline is not None and now >= queue_deadline and not stream.scheduled:  # (2)
        return endings.out_of_patience(limits.queue_timeout, places.retry_after(now))
    untaken = stream.untaken_since
    if untaken is not None and now - untaken > limits.reader_timeout:  # (3)
        return endings.slow_reader()
    return None


def out_of_time(stream: EngineStream) -> Ending:
    return endings.out_of_time(stream.deadline - stream.arrived)
