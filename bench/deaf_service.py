"""The service with a recorder that hears nothing: what telemetry costs is held against it."""

from __future__ import annotations

import sys
from typing import Any

from service.cli import main
from service.telemetry.recorder import Recorder


def nothing(*anything: Any, **named: Any) -> None:
    pass


for heard in ("on_step", "on_finish", "on_http", "on_answer", "on_rejection"):
    setattr(Recorder, heard, nothing)

sys.exit(main())
