"""The service with observers that hear nothing: what telemetry costs is held against it."""

from __future__ import annotations

import sys
from typing import Any

from service.cli import main
from service.control.samples import Sampled
from service.telemetry.recorder import Recorder


def nothing(*anything: Any, **named: Any) -> None:
    pass


# `Sampled` is the first of the observers that an engine's reports reach.
for observer, heard in (
    (Sampled, ("on_steps", "on_model", "on_finish")),
    (Recorder, ("on_http", "on_answer", "on_rejection")),
):
    for name in heard:
        setattr(observer, name, nothing)

sys.exit(main())
