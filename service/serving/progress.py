"""How far each request is: for people who wait, and for those who want to end one."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from service.events import Finished, FinishReason
from service.fleet import endings

if TYPE_CHECKING:
    from service.fleet.generating import Generation
    from service.fleet.host import EngineHost
    from service.fleet.stream import EngineStream

State = Literal["queued", "loading", "prefill", "generating", "completed", "error", "cancelled"]
# What has ended is remembered for so long, and never more of it than this.
REMEMBERED_SECONDS: Final = 600.0
REMEMBERED: Final = 1000
TIDY_SECONDS: Final = 10.0

_ENDS: Final[dict[FinishReason, State]] = {
    FinishReason.ERROR: "error",
    FinishReason.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a request. What is not known at that moment is None.

    `started`, `updated` and `ended` are in Unix seconds. `processed_tokens` of the prompt are
    computed or were found computed; `queue_position` 1 is next. `owner`: the name of the key that
    asked, `local` where there are no keys.
    """

    id: str
    model: str
    dialect: str
    endpoint: str
    state: State
    started: float
    updated: float
    ended: float | None = None
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    processed_tokens: int | None = None
    generated_tokens: int = 0
    queue_position: int | None = None
    load_fraction: float | None = None
    error: str | None = None
    owner: str = "local"


class Entry:
    """One request, from its arrival on. Who knows more of it says so here."""

    def __init__(
        self,
        id: str,
        model: str,
        dialect: str,
        endpoint: str,
        max_tokens: int | None,
        owner: str = "local",
    ) -> None:
        self.id = id
        self.owner = owner
        self.model = model
        self.dialect = dialect
        self.endpoint = endpoint
        self.max_tokens = max_tokens
        self.started = time.time()
        self.ended: float | None = None
        self.host: EngineHost | None = None
        self.stream: EngineStream | None = None
        self.generation: Generation | None = None
        self.error: str | None = None
        self.dismissed = False
        # Somebody said so by its id.
        self.called_off = False
        self._ends: list[Finished] = []
        self._cancelled = False

    def end(self, error: str | None = None, *, cancelled: bool = False) -> None:
        if self.ended is None:
            self.ended = time.time()
            self.error = error
            self._cancelled = cancelled
            if self.generation is not None:
                self._ends = self.generation.ends
            # They hold buffers, and lead to what has been unloaded since.
            self.generation = self.host = self.stream = None

    def cancel(self) -> bool:
        """Ends it for its client too, in whatever stage it is; False where it has ended."""
        if self.ended is not None:
            return False
        self.called_off = True
        if self.host is not None and self.stream is not None:
            self.host.end(self.stream, endings.cancelled())
        return True

    def progress(self, position: Callable[[Generation], int | None]) -> Progress:
        generation = self.generation
        usage = self._ends[0].usage if self._ends else None
        prompt = processed = usage.prompt_tokens if usage else None
        generated = sum(end.usage.generation_tokens for end in self._ends)
        if generation is not None:
            prompt, processed = generation.prompt_tokens, generation.prefilled_tokens
            generated = generation.generated_tokens
        return Progress(
            id=self.id,
            model=self.model,
            dialect=self.dialect,
            endpoint=self.endpoint,
            state=self._state(),
            started=self.started,
            updated=self.ended or time.time(),
            ended=self.ended,
            max_tokens=self.max_tokens,
            prompt_tokens=prompt,
            cached_tokens=usage.cached_tokens if usage else None,
            processed_tokens=processed,
            generated_tokens=generated,
            queue_position=position(generation) if generation else None,
            load_fraction=self.host.supervisor.load_fraction if self.host else None,
            error=self.error or next((end.error for end in self._ends if end.error), None),
            owner=self.owner,
        )

    def _state(self) -> State:
        if self.ended is not None:
            if self._cancelled:
                return "cancelled"
            if self.error is not None:
                return "error"
            reasons = [_ENDS.get(end.reason, "completed") for end in self._ends]
            return next((state for state in reasons if state != "completed"), "completed")
        if self.stream is None or not self.stream.scheduled:
            loading = self.host is not None and self.host.supervisor.state != "ready"
            return "loading" if loading else "queued"
        return "generating" if self.stream.generated_tokens else "prefill"


class RequestLog:
    """The requests that run and those that ended not long ago, oldest first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._tidied = 0.0

    def open(self, entry: Entry) -> Entry:
        """Of two requests with one id, the newer is the one that can be asked about."""
        self._forget()
        self._entries.pop(entry.id, None)
        self._entries[entry.id] = entry
        return entry

    def find(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def get(self, id: str) -> Progress | None:
        entry = self._entries.get(id)
        return entry.progress(self._position) if entry else None

    def all(self) -> list[Progress]:
        self._forget()
        entries = (entry for entry in self._entries.values() if not entry.dismissed)
        return [entry.progress(self._position) for entry in entries]

    def dismiss(self, id: str) -> bool:
        """Takes it off the list; it goes on, and can still be asked about by its id."""
        entry = self._entries.get(id)
        if entry is None:
            return False
        entry.dismissed = True
        return True

    def dismiss_completed(self) -> int:
        ended = [e for e in self._entries.values() if e.ended is not None and not e.dismissed]
        for entry in ended:
            entry.dismissed = True
        return len(ended)

    def _position(self, generation: Generation) -> int | None:
        """Its place among the requests that wait for the same model."""
        if generation.scheduled:
            return None
        before = 1
        for entry in self._entries.values():
            other = entry.generation
            if other is generation:
                return before
            if other is not None and other.model == generation.model and not other.scheduled:
                before += 1
        return None

    def _forget(self) -> None:
        """Now and then: every request is counted here, and few are asked about."""
        now = time.time()
        if now - self._tidied < TIDY_SECONDS and len(self._entries) < 2 * REMEMBERED:
            return
        self._tidied, until = now, now - REMEMBERED_SECONDS
        ended = [entry for entry in self._entries.values() if entry.ended is not None]
        for number, entry in enumerate(ended):
            assert entry.ended is not None
            if entry.ended >= until and len(ended) - number <= REMEMBERED:
                break
            del self._entries[entry.id]
