"""What is remembered of optimisation: one line of JSON each, told apart by `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from service.control.effects import Direction, Effect, Verdict


class Record(Struct, frozen=True, omit_defaults=True, tag_field="kind"):
    """`at` in Unix seconds."""

    at: float


class AnalysisMade(Record, frozen=True, tag="analysis"):
    """The score, of each component the health, and the rules that advised something."""

    score: float | None
    coverage: float
    components: Mapping[str, float | None]
    recommendations: tuple[str, ...]


class Change(Record, frozen=True, tag="change"):
    """A change of the configuration, and so the beginning of a window.

    rule: whose advice it was, where it was one's. changed: key → (old, new). undone: the change that
    it takes back. metric, direction: what has to get better.
    """

    id: str
    by: str
    why: str
    version: int
    previous: int
    config_hash: str
    changed: Mapping[str, tuple[Any, Any]]
    metric: str
    direction: Direction
    reloads: tuple[str, ...] = ()
    rule: str | None = None
    undone: str | None = None


class Judged(Record, frozen=True, tag="verdict"):
    """What a change did, so far or (`final`) once its window is closed.

    effects: of each metric that could be compared; the verdict is that of `metric`. failed: requests
    that failed, (before, after). incidents: what happened after the change and not before.
    confounded_by: a change that came before this one's window had been closed otherwise.
    """

    change: str
    verdict: Verdict
    final: bool
    metric: str
    direction: Direction
    hardware: str
    effects: Mapping[str, Effect] = {}
    failed: tuple[int, int] = (0, 0)
    incidents: Mapping[str, float] = {}
    confounded_by: str | None = None
    recommends_rollback: bool = False
    reason: str | None = None
    rule: str | None = None


class Dismissed(Record, frozen=True, tag="dismissal"):
    """until: Unix seconds; None: for good. by: the name of who dismissed it."""

    id: str
    by: str
    until: float | None = None


class Tried(Record, frozen=True, tag="trial"):
    """A/B/A of `rule`'s patch. outcome: completed, or why not. drift: the second A against the first."""

    id: str
    rule: str
    by: str
    outcome: str
    hardware: str
    verdict: Verdict
    seconds: float
    effects: Mapping[str, Effect] = {}
    drift: Mapping[str, float] = {}
    reason: str | None = None


AnyRecord = AnalysisMade | Change | Judged | Dismissed | Tried
KINDS = ("analysis", "change", "verdict", "dismissal", "trial")
