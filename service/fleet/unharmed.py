"""What engines tell an observer must not be able to hurt them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service.stats import ModelEvent, Observer, RequestStats, StepStats

logger = logging.getLogger(__name__)


class Unharmed:
    """An observer that cannot fail: it is called from engines' sockets, which would close."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        try:
            self._observer.on_steps(model, steps)
        except Exception:
            logger.exception("the observer failed")

    def on_finish(self, stats: RequestStats) -> None:
        try:
            self._observer.on_finish(stats)
        except Exception:
            logger.exception("the observer failed")

    def on_model(self, event: ModelEvent) -> None:
        try:
            self._observer.on_model(event)
        except Exception:
            logger.exception("the observer failed")
