"""The changes of the configuration that are remembered, and what came of each source of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from service.control.history import History
from service.control.records import AnyRecord, Change, Judged
from service.errors import StateNotWritten
from service.telemetry.verdicts import Outcome

logger = logging.getLogger(__name__)

REMEMBERED: Final = 100
RESTARTED: Final = "The service was started anew before there was a verdict."
NOT_WRITTEN: Final = "what is learned of changes is not kept: %s"


class Changes:
    def __init__(self, history: History) -> None:
        self._history = history
        # Those of this run, of which the disk may not know yet.
        self._made: deque[Change] = deque(maxlen=REMEMBERED)
        self._outcomes: dict[str, Outcome] = {}
        self._next = 1 + max((number(change.id) for change in self.all()), default=0)

    def all(self) -> list[Change]:
        """Oldest first; what the disk has not taken yet is among them."""
        kept = {r.id: r for r in self._history.records() if isinstance(r, Change)}
        return list((kept | {change.id: change for change in self._made}).values())

    def get(self, id: str) -> Change | None:
        return next((change for change in self.all() if change.id == id), None)

    def since(self, id: str) -> list[Change]:
        return [change for change in self.all() if number(change.id) > number(id)]

    def from_version(self, previous: str) -> Change | None:
        """The last one that was made when this version was in force."""
        found = (change for change in reversed(self.all()) if str(change.previous) == previous)
        return next(found, None)

    def to_version(self, version: int) -> Change:
        """Of this run."""
        return next(change for change in reversed(self._made) if change.version == version)

    @property
    def next_id(self) -> str:
        return str(self._next)

    def begin(self, change: Change) -> None:
        """With `next_id`. The disk is told by `add`."""
        self._next += 1
        self._made.append(change)
        of = source(change)
        known = self._outcomes.get(of, Outcome(of, change.metric, change.at))
        self._outcomes[of] = known.again(change.metric, change.at)

    async def tell(self, change: Change, verdict: Judged) -> None:
        await self.add(verdict)
        of = source(change)
        known = self._outcomes.get(of, Outcome(of, change.metric, change.at))
        if known.at <= change.at:
            known = known.judged(verdict.verdict, verdict.effects.get(change.metric))
        if verdict.final:
            known = known.counted(verdict.verdict)
        self._outcomes[of] = known

    async def add(self, record: AnyRecord) -> None:
        """To the history; a disk that does not take it is told of in the log."""
        await asyncio.to_thread(self._add, record)

    def outcomes(self) -> list[Outcome]:
        """Of each source of changes the last one."""
        return list(self._outcomes.values())

    def close_forgotten(self, open: Callable[[], str | None], at: float, hardware: str) -> None:
        """Windows that were open when the service ended: what was seen of them last holds.
        `open`: the change whose window is open now. Blocks."""
        for change in self.all():
            last = self._history.verdict(change.id)
            if (last is not None and last.final) or change.id == open():
                continue
            unknown = nothing(change, at, hardware, RESTARTED)
            self._add(unknown if last is None else replace(last, final=True, reason=RESTARTED))

    def _add(self, record: AnyRecord) -> None:
        try:
            self._history.add(record)
        except StateNotWritten as error:
            logger.error(NOT_WRITTEN, error.message)


def source(change: Change) -> str:
    """The rule, or what else changed it: bounded, for labels."""
    return change.rule or change.why.partition(":")[0]


def number(id: str) -> int:
    return int(id) if id.isdecimal() else 0


def nothing(change: Change, at: float, hardware: str, reason: str) -> Judged:
    """No verdict, and why."""
    return Judged(
        at=at,
        change=change.id,
        verdict="insufficient_data",
        final=True,
        metric=change.metric,
        direction=change.direction,
        hardware=hardware,
        reason=reason,
        rule=change.rule,
    )
