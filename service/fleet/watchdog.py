"""Whether an engine that has work is still getting anywhere. Pure: the time is an argument."""

from __future__ import annotations


class Watchdog:
    """Two clocks, since two threads of an engine answer: its reader, which admits, and its step
    loop. New requests must not keep a wedged step loop alive, so only a step shows that it steps.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.forget()

    def forget(self) -> None:
        """A new engine: nothing is owed."""
        # Sent and neither admitted nor refused; admitted and not finished.
        self._unanswered: set[int] = set()
        self._admitted: set[int] = set()
        self._answer_due_since: float | None = None
        self._step_due_since: float | None = None

    def submitted(self, id: int, now: float) -> None:
        self._unanswered.add(id)
        if self._answer_due_since is None:
            self._answer_due_since = now

    def answered(self, id: int, now: float) -> None:
        """Whatever the answer was."""
        self._unanswered.discard(id)
        self._answer_due_since = now if self._unanswered else None

    def admitted(self, id: int, now: float) -> None:
        self._admitted.add(id)
        if self._step_due_since is None:
            self._step_due_since = now

    def settled(self, id: int) -> None:
        """The engine holds nothing of it any more."""
        self._admitted.discard(id)

    def stepped(self, now: float) -> None:
        """Once what the step finished is settled."""
        self._step_due_since = now if self._admitted else None

    def excuse(self, now: float) -> None:
        """The service itself was held up and read no reports: the engine's time begins anew."""
        if self._answer_due_since is not None:
            self._answer_due_since = now
        if self._step_due_since is not None:
            self._step_due_since = now

    def wedged(self, now: float) -> bool:
        since = [at for at in (self._answer_due_since, self._step_due_since) if at is not None]
        return bool(since) and now - min(since) > self.timeout
