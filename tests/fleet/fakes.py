"""A host or a runtime over `tests.fake_engine`, and ways to read from them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.engine.wire import EngineParams
from service.events import Event, Finished, TextDelta, TokenEvent
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.stream import EngineEvent, EngineStream
from service.generation import Chat, GenerationRequest, Message, SamplingParams, Text
from service.serving.runtime import Generation, Runtime
from service.settings import Settings
from service.stats import ModelEvent, RequestStats, StepStats

FAKE: Final = (sys.executable, "-m", "tests.fake_engine")
QUICK: Final = Limits(
    queue=16, queue_timeout=20.0, step_timeout=5.0, load_timeout=10.0, restart_pause=0.02
)

T = TypeVar("T")


def write_script(
    folder: Path, name: str = "fake", lives: Iterable[Any] = (), **script: Any
) -> Path:
    """A "model file": one script, or one for each life."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(list(lives) or script))
    return path


def lives(path: Path) -> int:
    """How often an engine was started for it."""
    counted = path.with_suffix(".lives")
    return counted.stat().st_size if counted.exists() else 0


@dataclass
class Seen:
    """An observer that keeps what it is told."""

    steps: list[StepStats] = field(default_factory=list)
    finishes: list[RequestStats] = field(default_factory=list)
    models: list[ModelEvent] = field(default_factory=list)

    def on_model(self, event: ModelEvent) -> None:
        self.models.append(event)

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        self.steps += steps

    def on_finish(self, stats: RequestStats) -> None:
        self.finishes.append(stats)


@dataclass
class Shelf:
    cards: list[ModelCard]

    def scan(self) -> list[ModelCard]:
        return list(self.cards)


def card(path: Path) -> ModelCard:
    return ModelCard(f"{path.stem}:latest", str(path), 1, path.stat().st_mtime, "directory")


@asynccontextmanager
async def running_host(
    path: Path,
    limits: Limits = QUICK,
    *,
    slots: int = 4,
    seen: Seen | None = None,
    command: tuple[str, ...] = FAKE,
) -> AsyncIterator[EngineHost]:
    host = EngineHost(
        path.stem,
        EngineParams(str(path), n_seq=slots),
        limits,
        seen or Seen(),
        command=command,
    )
    host.start()
    try:
        yield host
    finally:
        await host.close()


def enter(host: EngineHost, n: int = 1, within: float = 20.0) -> EngineStream:
    now = time.monotonic()
    return host.enter(n, arrived=now, deadline=now + within)


async def submitted(
    host: EngineHost, n: int = 1, within: float = 20.0, **script: Any
) -> EngineStream:
    """A request that has been admitted, and does as `script` says."""
    stream = enter(host, n, within)
    await host.loaded(stream)
    await host.submit(stream, Text(json.dumps(script)), SamplingParams())
    return stream


async def read(stream: EngineStream) -> tuple[str, list[Finished]]:
    """The text of all answers, and how each ended."""
    text, ends = "", []
    while events := await stream.take():
        text += "".join(event.text for event in events if isinstance(event, TokenEvent))
        ends += [event for event in events if isinstance(event, Finished)]
    return text, ends


async def until_tokens(stream: EngineStream, count: int = 1) -> list[EngineEvent]:
    events: list[EngineEvent] = []
    while sum(isinstance(event, TokenEvent) for event in events) < count:
        taken = await stream.take()
        assert taken, "it ended before that"
        events += taken
    return events


async def until(condition: Callable[[], object], within: float = 10.0) -> float:
    """Seconds until it became true."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, "it did not come true"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def outcome(awaitable: Awaitable[T]) -> T | Exception:
    try:
        return await awaitable
    except Exception as error:
        return error


@asynccontextmanager
async def running_runtime(
    *paths: Path,
    observer: Any = None,
    limits: Limits = QUICK,
    command: tuple[str, ...] = FAKE,
    shelf: Shelf | None = None,
    **settings: Any,
) -> AsyncIterator[Runtime]:
    runtime = Runtime(
        Catalog((), demo=shelf or Shelf([card(path) for path in paths])),
        Settings(**settings),
        observer or Seen(),
        command=command,
        limits=limits,
    )
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


def chat(model: str = "", *, n: int = 1, stream: bool = True, **script: Any) -> GenerationRequest:
    """A request that the fake engine takes its script from, if there is one."""
    return GenerationRequest(
        id=f"request-{time.monotonic_ns()}",
        model=model,
        input=Chat((Message("user", json.dumps(script) if script else "hello"),)),
        arrived=time.monotonic(),
        dialect="openai",
        endpoint="/v1/chat/completions",
        n=n,
        stream=stream,
    )


async def answer(runtime: Runtime, request: GenerationRequest) -> tuple[str, list[Finished]]:
    generation = await runtime.admit(request)
    async with aclosing(generation):
        return texts([event async for event in generation])


async def rest(generation: Generation) -> tuple[str, list[Finished]]:
    async with aclosing(generation):
        return texts([event async for event in generation])


def texts(events: list[Event]) -> tuple[str, list[Finished]]:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return text, [event for event in events if isinstance(event, Finished)]
