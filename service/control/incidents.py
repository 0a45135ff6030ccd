"""What must not happen after a change: memory that ran out, engines that died, GPUs that throttled."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final

from exporters.readings import GpusReading, HostReading

# Why a GPU throttles that it should not; to be held at its power limit is ordinary work.
THROTTLES: Final = frozenset({"sw_thermal", "hw_thermal", "hw_slowdown", "hw_power_brake"})
# Of throttling, in seconds: sampling rounds.
LEAST_SECONDS: Final = 1.0
KEPT: Final = 1500

Tally = Mapping[str, float]


def tally(
    gpus: GpusReading | None,
    host: HostReading | None,
    deaths: int,
    load_failures: Mapping[str, int],
) -> Counter[str]:
    """Totals that only grow. `load_failures` by reason, as `stats.LoadFailure`."""
    counts: Counter[str] = Counter()
    counts["engine_deaths"] = deaths
    counts["out_of_memory"] = load_failures.get("out_of_memory", 0)
    kills = host.oom_kills if host is not None else {}
    # Of scopes that hold each other, the widest.
    counts["oom_kills"] = int(max(kills.values(), default=0))
    for gpu in gpus.gpus if gpus is not None else ():
        for reason in THROTTLES & gpu.throttle_seconds.keys():
            counts[f"throttle_seconds_{reason}"] += gpu.throttle_seconds[reason]  # type: ignore[assignment]
    return counts


class Incidents:
    """The totals of the last day, minute by minute."""

    def __init__(self) -> None:
        self._tallies: deque[tuple[float, Tally]] = deque(maxlen=KEPT)

    def note(self, at: float, totals: Tally) -> None:
        self._tallies.append((at, dict(totals)))

    def new(self, changed: float, until: float) -> dict[str, float]:
        """What grew since `changed` by more than in as long a time before it, and by how much more."""
        after = self._growth(changed, until)
        before = self._growth(changed - (until - changed), changed)
        more = {name: grown - before.get(name, 0.0) for name, grown in after.items()}
        return {name: by for name, by in more.items() if by >= least(name)}

    def _growth(self, start: float, end: float) -> dict[str, float]:
        first, last = self._at(start), self._at(end)
        # A driver that was loaded anew counts from the beginning.
        return {name: max(0.0, value - first.get(name, 0.0)) for name, value in last.items()}

    def _at(self, moment: float) -> Tally:
        """As last known then; what was before the first tally is taken for it."""
        known: Iterable[Tally] = (tally for at, tally in reversed(self._tallies) if at <= moment)
        return next(iter(known), self._tallies[0][1] if self._tallies else {})


def least(name: str) -> float:
    return LEAST_SECONDS if name.startswith("throttle_seconds") else 1
