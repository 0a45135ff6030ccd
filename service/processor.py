"""The engines' threads before ours, where they share processors."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)


def yield_to_engines() -> None:
    """Lets the calling thread be waited for, rather than interrupt what computes.

    A thread that sleeps most of the time, as the event loop does, gets the processor from one that
    does not at the moment it wakes: from the engine, at each frame that the engine itself has sent,
    so that the other threads of its step wait for the one that was stopped. SCHED_BATCH is the same
    share of the time without that privilege. An engine, being a child, begins with undoing it.
    """
    policy = getattr(os, "SCHED_BATCH", None)
    if policy is None:
        return
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except OSError as error:
        # A manager's filter may not let us; then it can be told to do the same.
        logger.debug("the scheduling policy stays as it is: %s", error.strerror)
