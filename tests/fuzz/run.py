"""Thousands of requests to a running service, and what it must have withstood."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tests.dialects.serving import wait_until
from tests.fuzz.exchange import Answer, exchange
from tests.fuzz.requests import Request, request
from tests.fuzz.verdict import fault
from tests.service_process import Service

# As many as fill the slots and wait a little; and contexts so short that no answer is long.
AT_ONCE: Final = 8
FLAGS: Final = ("--queue-size", "1000", "--default-context-size", "256")
# Of what runs or waits: nothing is left behind.
AT_REST: Final = (
    "llm_active_requests",
    "llm_requests_running",
    "llm_requests_waiting",
    "llm_engine_slots_busy",
)


@dataclass(frozen=True)
class Violation:
    dialect: str
    number: int
    what: str
    request: Request | None = None


@dataclass
class Tally:
    """What became of the requests to one dialect. `slowest`: in seconds, of refusals, and which."""

    classes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    violations: list[Violation] = field(default_factory=list)

    def add(self, dialect: str, number: int, sent: Request, answer: Answer) -> None:
        name = f"{answer.status // 100}xx" if answer.ending == "complete" else answer.ending
        self.classes[name] += 1
        if name == "4xx":
            self.slowest = max(self.slowest, (answer.seconds, number))
        if what := fault(sent, answer):
            self.violations.append(Violation(dialect, number, what, sent))


async def fuzz(url: str, dialect: str, seed: int, numbers: Iterable[int]) -> Tally:
    address = urlsplit(url)
    host, port = str(address.hostname), int(address.port or 0)
    waiting = iter(numbers)
    exchanged: list[tuple[int, Request, Answer]] = []

    async def work() -> None:
        for number in waiting:
            sent = request(dialect, seed, number)
            exchanged.append((number, sent, await exchange(host, port, sent)))

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())
    # Not before: to look through one large answer takes seconds, in which others seem to hang.
    tally = Tally()
    for number, sent, answer in exchanged:
        tally.add(dialect, number, sent, answer)
    return tally


def aftermath(service: Service, dialect: str) -> list[Violation]:
    """What requests may have done to the service that their own answers do not show."""
    found = []

    def is_at_rest() -> bool:
        return all(service.metric(name) == 0 for name in AT_REST)

    try:
        wait_until(is_at_rest, 30)
    except AssertionError:
        left = {name: service.metric(name) for name in AT_REST}
        found.append(f"something is still running: {left}")
    body = {"messages": [{"role": "user", "content": "2+2="}], "max_tokens": 8}
    plain = httpx.post(service.url + "/v1/chat/completions", json=body, timeout=60)
    if plain.status_code != 200:
        found.append(f"a plain request gets {plain.status_code}: {plain.text}")
    health = httpx.get(service.url + "/health/models/demo", timeout=10).json()
    if health["deaths"]:
        found.append(f"engines have died: {health}")
    errors = [entry for entry in service.log if entry["level"] in ("ERROR", "CRITICAL")]
    found += [f"the log has an error: {last_line(entry)}" for entry in errors]
    service.log.clear()
    return [Violation(dialect, -1, what) for what in found]


def last_line(entry: dict[str, Any]) -> str:
    """With where it was raised, if it is an exception."""
    trace = str(entry.get("exception", "")).replace("\\x0a", "\n").strip().splitlines()
    return f"{entry['message']} [{entry.get('request_id')}] {' | '.join(trace[-3:])}"


def empty_folder(parent: Path) -> Path:
    """Where no models are, so that the demo model is the only one."""
    folder = parent / "models"
    folder.mkdir()
    return folder
