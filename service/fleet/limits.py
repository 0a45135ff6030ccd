"""How much one engine is trusted with, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """In answers and seconds. `queue` is beyond the slots."""

    queue: int = 16
    queue_timeout: float = 60.0
    step_timeout: float = 30.0
    load_timeout: float = 600.0
    reader_timeout: float = 30.0
    stop_grace: float = 2.0
    # Before the first restart; each further one within ten minutes waits twice as long.
    restart_pause: float = 0.5
    # Memory comes back sooner than a file gets well.
    rest_after_no_memory: float = 30.0
    rest_after_bad_load: float = 600.0
