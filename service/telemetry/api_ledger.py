"""How each API is doing, for the JSON that shows it: counted where llm_requests_total is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

# Answers that the mean time is of.
RECENT: Final = 100
MINUTE: Final = 60
# The client went away: neither side failed.
CLIENT_GONE: Final = 499
# Rates of failure, and a mean time, from which a row is no longer healthy.
ERROR_RATE: Final = 0.20
WARNING_RATE: Final = 0.05
SLOW_SECONDS: Final = 5.0

Status = Literal["healthy", "warning", "error", "unknown"]


@dataclass(frozen=True)
class Api:
    """A row: all requests of a dialect, or those of its paths that end in `ending`."""

    name: str
    path: str
    dialect: str = ""
    ending: str = ""

    def has(self, dialect: str, endpoint: str) -> bool:
        return self.dialect in ("", dialect) and endpoint.endswith(self.ending)


# A request is in the first row that has it. The last has what no other has.
APIS: Final = (
    Api("OpenAI API", "/v1/chat/completions", "openai"),
    Api("Ollama Chat", "/api/chat", "ollama", "/api/chat"),
    Api("Ollama Generate", "/api/generate", "ollama", "/api/generate"),
    Api("vLLM Chat", "/vllm/v1/chat/completions", "vllm", "/chat/completions"),
    Api("vLLM Completion", "/vllm/v1/completions", "vllm", "/completions"),
    Api("HuggingFace TGI", "/generate", "tgi"),
    Api("Other", "*"),
)


@dataclass
class Account:
    """What has become of the requests of one row. Times are in Unix seconds."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    last: float | None = None
    # The times that the last answers took, in seconds.
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    # (second, requests that ended in it), of the last minute.
    seconds: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MINUTE))

    def add(self, code: int, seconds: float, now: float) -> None:
        if code == CLIENT_GONE:
            self.cancelled += 1
        elif code >= 400:
            self.failed += 1
        else:
            self.succeeded += 1
        self.last = now
        self.recent.append(seconds)
        second = int(now)
        if self.seconds and self.seconds[-1][0] == second:
            self.seconds[-1] = second, self.seconds[-1][1] + 1
        else:
            self.seconds.append((second, 1))

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    @property
    def success_rate(self) -> float | None:
        """Of those that ended one way or the other; None where none has."""
        ended = self.succeeded + self.failed
        return self.succeeded / ended if ended else None

    @property
    def mean_seconds(self) -> float | None:
        return sum(self.recent) / len(self.recent) if self.recent else None

    def last_minute(self, now: float) -> int:
        return sum(count for second, count in self.seconds if second > now - MINUTE)

    @property
    def status(self) -> Status:
        ended, mean = self.succeeded + self.failed, self.mean_seconds
        if not ended or mean is None:
            return "unknown"
        if self.failed > ERROR_RATE * ended:
            return "error"
        unwell = self.failed > WARNING_RATE * ended or mean > SLOW_SECONDS
        return "warning" if unwell else "healthy"


class ApiLedger:
    """Bounded: one account for each row, whatever the paths and models are."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.accounts = {api: Account() for api in APIS}
        self._wall_clock = wall_clock
        self._rows: dict[tuple[str, str], Account] = {}

    def on_answer(self, dialect: str, endpoint: str, code: int, seconds: float) -> None:
        account = self._rows.get((dialect, endpoint))
        if account is None:
            row = next(api for api in APIS if api.has(dialect, endpoint))
            account = self._rows[dialect, endpoint] = self.accounts[row]
        account.add(code, seconds, self._wall_clock())
