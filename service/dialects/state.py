"""What the dialects find in `request.state`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from exporters.readings import Latest
from service.control.analyst import Analyst
from service.control.audit import Audit
from service.control.presets import Preset
from service.dialects.responses.store import ResponseStore
from service.dialects.turnstile import Turnstile
from service.settings import Settings
from service.store.library import Library
from service.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from service.catalog.ollama_inspection import Inspection
    from service.serving.runtime import Runtime
    from service.tuning.optimization import Optimization
    from service.tuning.reconfiguration import Reconfiguration
    from service.tuning.trial import Trial


class State(TypedDict):
    """The lifespan puts it there."""

    runtime: Runtime
    library: Library
    settings: Settings
    turnstile: Turnstile
    responses: ResponseStore
    recorder: Recorder
    monitors: Latest
    analyst: Analyst
    optimization: Optimization
    trial: Trial
    audit: Audit
    reconfiguration: Reconfiguration
    inspection: Inspection
    presets: Sequence[Preset]
