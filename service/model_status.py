"""A model as it stands at this moment: on disk, and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.catalog.card import ModelCard
from service.facts import Adapter, ModelFacts


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model, loaded or not. `running` and `waiting` count requests, `by_api` the same of each
    dialect that has any, as (running, waiting); the capacity is of both."""

    card: ModelCard
    state: Literal["unloaded", "loading", "ready", "failed", "restarting"]
    # Why it failed, or had to be restarted.
    reason: str | None
    facts: ModelFacts | None
    load_fraction: float | None
    running: int
    waiting: int
    queue_capacity: int
    # How often its engine died, since it was first loaded.
    deaths: int = 0
    pid: int | None = None
    by_api: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # Seconds that it stays when idle (negative: for ever); None where it is not loaded.
    keep_alive: float | None = None
    # When it goes, in monotonic seconds; None while it works, and where it stays for ever.
    expires: float | None = None
    # That it is, or will be, loaded with.
    adapters: tuple[Adapter, ...] = ()
