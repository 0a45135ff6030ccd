"""The service without an engine: what an engine would say is recorded, all else is real.

An answer's events are given one by one, as the steps of an engine would bring them, and without
waiting: so all the time that passes is the service's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import thread_time
from typing import Any, cast

from starlette.types import ASGIApp, Message

from bench.paths import BUILD
from service.app import create_app
from service.catalog.card import ModelCard
from service.catalog.configured import catalog_of
from service.engine.wire import Admitted, EngineParams
from service.events import (
    Finished,
    FinishReason,
    Logprob,
    Timings,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.stream import EngineEvent, EngineStream
from service.generation import EmbeddingRequest, GenerationRequest, SamplingParams
from service.serving.entrance import Entered, Entrance
from service.serving.progress import Entry
from service.serving.runtime import Runtime
from service.settings import Settings

MODEL = "demo:latest"
PROMPT_TOKENS = 900


@dataclass(frozen=True)
class Cost:
    """Processor seconds of one streamed answer: to its first bytes, and from there to its last."""

    first: float
    rest: float
    frames: int


class RecordedStream(EngineStream):
    def __init__(self, arrived: float) -> None:
        super().__init__(1, 1, arrived=arrived, deadline=arrived + 600.0)
        self.recording: Iterator[EngineEvent] = iter(())

    async def take(self) -> list[EngineEvent]:
        event = next(self.recording, None)
        if isinstance(event, Finished):
            self.finished[event.index] = event
        return [] if event is None else [event]


class RecordedHost:
    """What a Generation asks of its engine's host, and nothing behind it."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = pieces
        self.params = EngineParams("recorded")

    async def submit(
        self, stream: RecordedStream, prompt: Any, sampling: SamplingParams, *_: Any, **__: Any
    ) -> Admitted:
        stream.recording = iter(recording(self._pieces, sampling))
        ids = tuple(range(PROMPT_TOKENS)) if sampling.token_ids else ()
        return Admitted(stream.id, PROMPT_TOKENS, prompt=ids)

    def cancel(self, stream: EngineStream) -> None:
        stream.settle()

    end = cancel


def recording(pieces: Sequence[str], sampling: SamplingParams) -> list[EngineEvent]:
    """A token for each piece, with what was asked for of each, and the end."""
    events: list[EngineEvent] = []
    for number, piece in enumerate(pieces):
        chosen = Logprob(number, piece.encode(), -0.5)
        scored = sampling.logprobs is not None
        logprobs = (TokenLogprobs(chosen, (chosen,) * (sampling.logprobs or 0)),) if scored else ()
        ids = (number,) if sampling.token_ids else ()
        events.append(TokenEvent(0, piece, 1, number, logprobs, ids))
    usage = Usage(PROMPT_TOKENS, 0, len(pieces) + 1)
    timings = Timings(1.0, 1.1, 1.2, 2.0, 2.0)
    return [*events, Finished(0, FinishReason.STOP, usage, timings)]


class RecordedRuntime(Runtime):
    """`pieces` are what every request is answered with."""

    pieces: Sequence[str] = ()

    async def start(self) -> None:
        self._catalog.refresh()
        self._scanned = True
        self._entrance = RecordedEntrance(self)


class RecordedEntrance(Entrance):
    def __init__(self, runtime: RecordedRuntime) -> None:
        self._runtime = runtime

    @asynccontextmanager
    async def enter(
        self, request: GenerationRequest | EmbeddingRequest, n: int, entry: Entry
    ) -> AsyncIterator[Entered]:
        card = self._runtime.resolve(request.model)
        host = cast(EngineHost, RecordedHost(self._runtime.pieces))
        yield Entered(card, facts_of(card), host, RecordedStream(request.arrived), None)


def facts_of(card: ModelCard) -> ModelFacts:
    return ModelFacts(
        architecture=card.architecture or "",
        description=card.name,
        n_ctx=16384,
        n_ctx_seq=4096,
        n_ctx_train=4096,
        n_seq=4,
        n_batch=2048,
        n_vocab=1280,
        n_embd=256,
        n_layer=5,
        n_params=3_850_000,
        size_bytes=card.size_bytes,
        kv_layout="split",
        threads=2,
        bos="",
        eos="<|im_end|>",
        eog_tokens=(2,),
        chat_template=card.chat_template,
        can_rollback=True,
        gpu_offload=False,
        engine_version="recorded",
        load_seconds=0.0,
    )


@dataclass(frozen=True)
class Service:
    """The whole application, called as a server calls it."""

    app: ASGIApp
    state: dict[str, Any]
    runtime: RecordedRuntime

    async def ask(self, path: str, body: dict[str, Any], pieces: Sequence[str]) -> Cost:
        """Raises RuntimeError unless it is answered with 200."""
        self.runtime.pieces = pieces
        whole = json.dumps({"model": MODEL} | body).encode()
        content = [{"type": "http.request", "body": whole}]
        status, frames, answer, times = 0, 0, b"", [0.0, 0.0]

        async def receive() -> Message:
            if content:
                return content.pop()
            # Nobody hangs up here.
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal status, frames, answer
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                answer = message["body"][:500]
                times[bool(frames)] = thread_time()
                frames += 1

        began = thread_time()
        await self.app(self._scope(path), receive, send)
        if status != 200:
            raise RuntimeError(f"{path} was answered with {status}: {answer!r}")
        return Cost(times[0] - began, times[1] - times[0], frames)

    def _scope(self, path: str) -> dict[str, Any]:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": dict(self.state),
        }


@asynccontextmanager
async def recorded() -> AsyncIterator[Service]:
    """On the bundled demo model's card and chat template."""
    folder = BUILD / "no-models"
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(model_dir=(folder,), discover_models=False, state_dir=BUILD / "state")
    runtimes: list[RecordedRuntime] = []

    def make(settings: Settings, observer: Any) -> Runtime:
        runtimes.append(RecordedRuntime(catalog_of(settings), settings, observer))
        return runtimes[0]

    app = create_app(settings, make)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield Service(app, dict(state), runtimes[0])
