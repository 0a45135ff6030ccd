"""The time after a change, in which it is seen what came of it. Pure but for the samples it keeps.

A window is open until it has requests enough, for a day at most, or until the next change: what
comes after that is the next change's. It is looked at whenever it has half as many requests more;
the verdicts until then are told as not final, since who looks often enough sees anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from service.control.effects import LEAST_REQUESTS, MOST_REQUESTS, Effect, Point, effect
from service.control.records import Change, Judged
from service.control.samples import METRICS, Sample

SECONDS: Final = 24 * 3600.0
# Of each model, the first requests after a change: caches are empty, and pages not read yet.
WARM_UP: Final = 5
# Of the primary metric: what is lost beyond this is a reason to go back.
MOST_LOSS: Final = 0.10
NOT_ENOUGH: Final = (
    f"No load class had {LEAST_REQUESTS} requests on both sides: the same model, way of answering, "
    "length of prompt and number of requests at the same time."
)


class Window:
    """Belongs to the event loop; what `evidence` gives is copied."""

    def __init__(self, change: Change, before: Iterable[Sample]) -> None:
        self.change = change
        self._before = sorted(before, key=lambda sample: sample.arrived)[-2 * MOST_REQUESTS :]
        self._after: list[Sample] = []
        self._seen: Counter[str] = Counter()
        self._next_look = LEAST_REQUESTS

    def take(self, sample: Sample) -> bool:
        """Whether there is enough that is new to look at."""
        if sample.version != self.change.version or self.full:
            return False
        self._seen[sample.load.model] += 1
        if self._seen[sample.load.model] <= WARM_UP and not sample.failed:
            return False
        self._after.append(sample)
        if len(self._after) < self._next_look:
            return False
        self._next_look += self._next_look // 2
        return True

    @property
    def full(self) -> bool:
        return len(self._after) >= MOST_REQUESTS

    def over(self, now: float) -> bool:
        return self.full or now - self.change.at >= SECONDS

    def evidence(self) -> tuple[list[Sample], list[Sample]]:
        return list(self._before), sorted(self._after, key=lambda sample: sample.arrived)


def judged(
    change: Change,
    evidence: tuple[Sequence[Sample], Sequence[Sample]],
    *,
    at: float,
    hardware: str,
    incidents: Mapping[str, float],
    final: bool,
    confounded_by: str | None = None,
) -> Judged:
    """Takes up to a second: not for a loop."""
    before, after = evidence
    effects: dict[str, Effect] = {}
    for metric in METRICS:
        found = effect(points(before, metric), points(after, metric), seed=change.version)
        if found is not None:
            effects[metric] = found
    primary = effects.get(change.metric)
    verdict = "insufficient_data" if primary is None else primary.verdict(change.direction)
    worse = (
        verdict == "regressed"
        and primary is not None
        and primary.loss(change.direction) > MOST_LOSS
    )
    return Judged(
        at=at,
        change=change.id,
        verdict=verdict,
        final=final,
        metric=change.metric,
        direction=change.direction,
        hardware=hardware,
        effects=effects,
        failed=(failures(before), failures(after)),
        incidents=incidents,
        confounded_by=confounded_by,
        recommends_rollback=worse or bool(incidents),
        reason=reason(change, primary),
        rule=change.rule,
    )


def reason(change: Change, primary: Effect | None) -> str | None:
    if primary is not None:
        return None
    if change.metric not in METRICS:
        return f"{change.metric} is not measured of single requests."
    return NOT_ENOUGH


def points(samples: Iterable[Sample], metric: str) -> list[Point]:
    """In the order that they have."""
    read = METRICS[metric]
    measured = ((sample.load, read(sample)) for sample in samples)
    return [(load, value) for load, value in measured if value is not None and value > 0]


def failures(samples: Iterable[Sample]) -> int:
    return sum(sample.failed for sample in samples)


def certain(verdict: Judged) -> bool:
    """Enough to act without being asked: an incident, or all of the interval beyond MOST_LOSS."""
    effect = verdict.effects.get(verdict.metric)
    if verdict.incidents:
        return True
    if effect is None or verdict.verdict != "regressed":
        return False
    if verdict.direction == "down":
        return effect.low > 1 + MOST_LOSS
    return effect.high < 1 - MOST_LOSS
