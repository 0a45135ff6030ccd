"""Whether an engine that has work is still getting anywhere. Pure: the time is an argument."""

from __future__ import annotations


class Watchdog:
    """Two clocks, since two threads of an engine answer: its reader, which admits, and its step
    loop. New requests must not keep a wedged step loop alive, so only a step shows that it steps.

    `unanswered` counts submits that were neither admitted nor refused, `admitted` requests that
    are admitted and unfinished.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.forget()

    def forget(self) -> None:
        """A new engine: nothing is owed."""
        self._answer_due_since: float | None = None
        self._step_due_since: float | None = None

    def answered(self, now: float, unanswered: int) -> None:
        self._answer_due_since = now if unanswered else None

    def stepped(self, now: float, admitted: int) -> None:
        self._step_due_since = now if admitted else None

    def submitted(self, now: float) -> None:
        if self._answer_due_since is None:
            self._answer_due_since = now

    def admitted(self, now: float) -> None:
        if self._step_due_since is None:
            self._step_due_since = now

    def excuse(self, now: float) -> None:
        """The service itself was held up and read no reports: the engine's time begins anew."""
        if self._answer_due_since is not None:
            self._answer_due_since = now
        if self._step_due_since is not None:
            self._step_due_since = now

    def wedged(self, now: float) -> bool:
        since = [at for at in (self._answer_due_since, self._step_due_since) if at is not None]
        return bool(since) and now - min(since) > self.timeout
