"""Advice put in force and taken back. What came of it is told by `judging`.

Belongs to the event loop; what computes or writes does so in threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from service.control.advice import Learned, Recommendation
from service.control.config import Applied
from service.control.history import History
from service.control.incidents import Tally
from service.control.records import Change, Dismissed
from service.control.samples import Samples
from service.errors import AdviceNotFound, ChangeNotFound, ChangeRefused, ServiceError
from service.tuning.judging import Advises, Judging, Reconfigures

logger = logging.getLogger(__name__)

# Who goes back where nobody asked for it.
AUTOMATIC: Final = "auto_rollback"


class Optimization:
    """`known`: the ids that advice may have. `tally`: totals of incidents so far; `hardware`: the
    name that effects are learned under; `automatic`: whether to go back without being asked, of
    which `on_automatic` is told, with `done` or why not."""

    def __init__(
        self,
        reconfiguration: Reconfigures,
        analyst: Advises,
        samples: Samples,
        history: History,
        *,
        known: Callable[[str], bool],
        tally: Callable[[], Tally],
        hardware: Callable[[], str],
        automatic: Callable[[], bool],
        on_automatic: Callable[[Change, Applied | None, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.history = history
        self.judging = Judging(
            reconfiguration,
            analyst,
            samples,
            history,
            tally=tally,
            hardware=hardware,
            automatic=automatic,
            go_back=self._go_back,
            clock=clock,
        )
        self._changes = self.judging.changes
        self._reconfiguration = reconfiguration
        self._analyst = analyst
        self._known = known
        self._hardware = hardware
        self._on_automatic = on_automatic
        self._clock = clock

    async def apply(self, id: str, *, expected: str | None, by: str) -> tuple[Change, Applied]:
        """Raises AdviceNotFound, ChangeRefused (it is not advised any more, or not ours to do) and
        what `Reconfiguration.apply` raises."""
        advice = self.advice(id)
        if not advice.patch:
            raise ChangeRefused(f"`{id}` is not for this service to do: {advice.action}")
        self.judging.by(id, advice.verify)
        applied = await self._reconfiguration.apply(
            advice.patch, by=by, why=f"advice:{id}", expected=expected
        )
        return self._of(applied, id), applied

    async def rollback(
        self, id: str, *, expected: str | None, by: str, later: bool = False
    ) -> tuple[Change, Applied]:
        """To the very configuration before it; so `later` changes go too, and have to be meant."""
        change = self._changes.get(id)
        if change is None:
            raise ChangeNotFound(id)
        since = self._changes.since(id)
        # What came of it is in force again, whatever was changed and taken back meanwhile.
        if self._reconfiguration.version.hash == change.config_hash:
            since = []
        if any(c.undone == id for c in since):
            raise ChangeRefused(f"Change {id} was taken back already.")
        if since and not later:
            raise ChangeRefused(
                f"Change {id} was followed by {', '.join(c.id for c in since)}, which would go with "
                "it: take those back first, or say `later_changes`: true."
            )
        if all(version.number != change.previous for version in self._reconfiguration.versions()):
            raise ChangeRefused(f"Version {change.previous}, from before it, is not kept any more.")
        applied = await self._reconfiguration.rollback(change.previous, by=by, expected=expected)
        return self._of(applied, id), applied

    async def dismiss(self, id: str, *, until: float | None, by: str) -> Dismissed:
        """Raises AdviceNotFound, StateNotWritten."""
        if not self._known(id):
            raise AdviceNotFound(id)
        dismissed = Dismissed(self._clock(), id, by, until)
        await asyncio.to_thread(self.history.add, dismissed)
        return dismissed

    def advice(self, id: str) -> Recommendation:
        """What the last analysis advises under that id."""
        if not self._known(id):
            raise AdviceNotFound(id)
        analysis = self._analyst.latest
        found = [r for r in analysis.recommendations if r.id == id] if analysis else []
        if not found:
            raise ChangeRefused(f"`{id}` is not advised any more: look at the advice again.")
        return found[0]

    def learned(self, rule: str) -> Learned | None:
        return self.history.learned(rule, self._hardware())

    def dismissed(self) -> set[str]:
        return set(self.history.dismissed(self._clock()))

    async def _go_back(self, change: Change) -> None:
        logger.warning("change %s made it worse, and is taken back", change.id)
        try:
            _, applied = await self.rollback(change.id, expected=None, by=AUTOMATIC)
            self._on_automatic(change, applied, "done")
        except ServiceError as error:
            self._on_automatic(change, None, error.code)
            logger.error("change %s could not be taken back: %s", change.id, error.message)

    def _of(self, applied: Applied, id: str) -> Change:
        if not applied.changed:
            raise ChangeRefused(f"What `{id}` asks for is in force already.")
        return self._changes.to_version(applied.version.number)
