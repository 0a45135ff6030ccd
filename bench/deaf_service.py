"""The service with observers that hear nothing while they are told not to.

What telemetry costs is a hundredth, and two processes of the same program differ by more: by where
their memory lies. So one and the same is deaf at times.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from exporters.sampler import Sampler
from service.cli import main
from service.telemetry.batched import Batched
from service.telemetry.recorder import Recorder

DEAF: Final = signal.SIGRTMIN
HEARING: Final = signal.SIGRTMIN + 1
# `Batched` is the first of the observers that an engine's reports reach.
OBSERVERS: Final[dict[type, tuple[str, ...]]] = {
    Batched: ("on_steps", "on_model", "on_finish"),
    Recorder: ("on_http", "on_answer", "on_rejection"),
    Sampler: ("_try",),
}

deaf = False


def tell(pid: int, *, deaf: bool) -> None:
    """Of a process that `__main__` of this runs in."""
    os.kill(pid, DEAF if deaf else HEARING)


def told(number: int, _frame: object) -> None:
    global deaf
    deaf = number == DEAF


def unless_deaf(hear: Callable[..., None]) -> Callable[..., None]:
    @wraps(hear)
    def heard(*anything: Any, **named: Any) -> None:
        if not deaf:
            hear(*anything, **named)

    return heard


if __name__ == "__main__":
    for observer, names in OBSERVERS.items():
        for name in names:
            setattr(observer, name, unless_deaf(getattr(observer, name)))
    signal.signal(DEAF, told)
    signal.signal(HEARING, told)
    sys.exit(main())
