"""One model's engine, seen from the service: a place in its queue, submit, read, cancel.

A request has its place from `enter` on, through the load and the queue, to its last event. When
the engine dies, its requests are of two kinds. One that had brought an event is over: what was
sent cannot be sent again. One that had not goes to the next engine as if nothing had been, once:
a request that two engines died with is not given to a third.

Everything here runs on the event loop. What to do is decided in `queue_places`, `deadlines`,
`watchdog` and `restarts`, which know neither a clock nor a process; the process is `supervisor`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from service.engine import wire
from service.errors import InvalidRequest, ServiceError
from service.facts import ModelFacts
from service.fleet import endings
from service.fleet.child import ENGINE
from service.fleet.deadlines import out_of_time, overdue
from service.fleet.limits import Limits
from service.fleet.restarts import Again
from service.fleet.shared_processors import SharedProcessors
from service.fleet.stream import Ending, EngineStream, Reply
from service.fleet.streams import Streams
from service.fleet.supervisor import Place, Supervisor
from service.fleet.ticks import Ticks
from service.fleet.vetting import Unloadable
from service.fleet.watchdog import Watchdog
from service.generation import Grammar, SamplingParams, Selection, Text, Tokens, Truncation
from service.stats import LoadFailure, ModelLoaded, ModelLoadFailed, Observer, idle_step

logger = logging.getLogger(__name__)

# A tick this late means that the service itself was held up, and read no reports.
LATE_SECONDS: Final = 1.0


class EngineHost:
    """`observer` is told of each step, and of an idle one when the engine is gone.

    `learn` is told what came of a load. `on_change` is called when the model is ready, has failed,
    or has nothing more to do; `want` when a request needs an engine and none is there: whoever is
    asked calls `start` in his time. `processors`: of all engines that it has to share them with.
    A model that cannot be loaded with `params` is loaded with `fallback`, if there is one.
    """

    def __init__(
        self,
        model: str,
        params: wire.EngineParams,
        limits: Limits,
        observer: Observer,
        *,
        command: tuple[str, ...] = ENGINE,
        vet: Callable[[], Awaitable[Unloadable | None]] | None = None,
        fallback: wire.EngineParams | None = None,
        place: Place | None = None,
        learn: Callable[[wire.EngineParams, ModelFacts], None] = lambda params, facts: None,
        on_change: Callable[[EngineHost], None] = lambda host: None,
        want: Callable[[EngineHost], None] = lambda host: host.start(),
        processors: SharedProcessors | None = None,
    ) -> None:
        self.model = model
        # When it was last asked for, or last had something to do.
        self.used = time.monotonic()
        # Of the load that it serves from; None before it.
        self.load_seconds: float | None = None
        self.ready_since: float | None = None
        self._streams = Streams(model, params.n_seq + limits.queue)
        self.places = self._streams.places
        self.supervisor = Supervisor(model, params, limits, self, command, vet, fallback, place)
        self._limits = limits
        self._observer = observer
        self._learn = learn
        self._on_change = on_change
        self._want = want
        self._processors = processors or SharedProcessors()
        # That compute now, itself included.
        self._engines = 1
        self._watchdog = Watchdog(limits.step_timeout)
        self._facts: asyncio.Future[ModelFacts] = _future()
        self._ticks = Ticks(self._tick)
        self._last_step = 0

    @property
    def params(self) -> wire.EngineParams:
        """It is, or will be, loaded with these."""
        return self.supervisor.params

    @property
    def idle(self) -> bool:
        return not self._streams

    @property
    def streams(self) -> Iterable[EngineStream]:
        """What is in its hands, settled or not."""
        return self._streams

    @property
    def running(self) -> int:
        return self._streams.running

    @property
    def waiting(self) -> int:
        return self._streams.waiting

    # What the service asks of it

    def start(self, after: Iterable[asyncio.Task[None]] = ()) -> None:
        self.supervisor.start(after)

    def enter(self, n: int, *, arrived: float, deadline: float, api: str = "") -> EngineStream:
        """A place for `n` answers, or the error that says why there is none:

        (1) the model cannot be loaded, (2) there are never so many places, (3) all are taken.
        """
        self.used = now = time.monotonic()
        if error := self.supervisor.resting(now):  # (1)
            raise error
        stream = self._streams.open(n, now, arrived=arrived, deadline=deadline, api=api)  # (2, 3)
        if self.supervisor.state == "ready":
            stream.queue_deadline = now + self._limits.queue_timeout
        self._ticks.soon()
        if not self.supervisor.living:
            self._want(self)
        return stream

    async def loaded(self, stream: EngineStream) -> ModelFacts:
        """What the model is, once it is loaded; raises what ended `stream` before that."""
        facts = self._facts
        asked, cold = time.monotonic(), not facts.done()
        either: set[asyncio.Future[Any]] = {facts, stream.admitted}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if stream.admitted.done():
            stream.admitted.result()
        if cold:
            stream.loading = asked, time.monotonic()
        return facts.result()

    async def submit(
        self,
        stream: EngineStream,
        prompt: Text | Tokens,
        sampling: SamplingParams,
        grammar: Grammar | None = None,
        truncation: Truncation | None = None,
        *,
        cache_salt: str = "",
        priority: int = 0,
        adapters: Selection = (),
    ) -> wire.Admitted:
        """The engine's word that it was admitted; raises its refusal."""
        stream.max_tokens = sampling.max_tokens
        submit = wire.Submit(
            stream.id,
            prompt,
            sampling,
            stream.n,
            grammar,
            truncation,
            cache_salt,
            priority,
            adapters,
        )
        admitted = await self.ask(stream, submit)
        assert isinstance(admitted, wire.Admitted)
        return admitted

    async def ask(
        self,
        stream: EngineStream,
        command: wire.Submit | wire.Embed | wire.Tokenize | wire.Detokenize,
    ) -> Reply:
        """Sends a command of the stream's id; its answer, or the refusal raised."""
        stream.frame = wire.encode(command)
        if len(stream.frame) > wire.MAX_FRAME_BYTES:
            raise InvalidRequest("The prompt is too large.", param="messages")
        if self.supervisor.state == "ready" and not stream.closed:
            self._send(stream, time.monotonic())
        return await asyncio.shield(stream.admitted)

    def cancel(self, stream: EngineStream) -> None:
        """In whatever stage it is. Nobody reads it any more."""
        self._end(stream, endings.cancelled(), time.monotonic())
        stream.drop()

    def end(self, stream: EngineStream, ending: Ending) -> None:
        """Its reader is told how it ended; the engine lets go of it within a step."""
        self._end(stream, ending, time.monotonic())

    def end_all(self, ending: Ending) -> None:
        now = time.monotonic()
        for stream in self._streams:
            self._end(stream, ending, now)

    def adopt(self, limits: Limits) -> None:
        """From now on; who waits already waits as long as was said when it came."""
        self.places.capacity += limits.queue - self._limits.queue
        self._watchdog.timeout = limits.step_timeout
        self._limits = self.supervisor.limits = limits

    def set_threads(self, threads: int | None) -> None:
        """From the engine's next step on, and in later lives."""
        self.supervisor.params = replace(self.params, threads=threads)
        self._tell_threads()

    def share(self, engines: int) -> None:
        """`SharedProcessors` says so."""
        if engines != self._engines:
            self._engines = engines
            self._tell_threads()

    def _tell_threads(self) -> None:
        if self.supervisor.state == "ready":
            command = wire.SetThreads(self.params.threads, self._engines)
            self.supervisor.send(wire.encode(command))

    async def rest(self) -> None:
        """Comes back when it has nothing to do."""
        await self._streams.rest()

    async def close(self) -> None:
        """Ends the engine and all that it has; comes back when the process is gone."""
        self.end_all(endings.unloaded(self.model))
        await self.supervisor.stop()
        self.on_death()
        self._ticks.stop()

    # What the supervisor tells it

    def on_ready(self, facts: ModelFacts, seconds: float) -> None:
        now = time.monotonic()
        self._observer.on_model(ModelLoaded(self.model, seconds))
        if self.params.threads != self.supervisor.loaded_with.threads:
            self.set_threads(self.params.threads)
        # The engine may have taken fewer slots than it was asked to.
        self.places.capacity = facts.n_seq + self._limits.queue
        self._facts.set_result(facts)
        for stream in self._streams:
            if stream.queue_deadline is None:
                stream.queue_deadline = now + self._limits.queue_timeout
            if stream.frame is not None and not stream.closed:
                self._send(stream, now)
        if self.idle:
            self.used = now
        self.load_seconds, self.ready_since = seconds, now
        self._learn(self.supervisor.loaded_with, facts)
        self._on_change(self)

    def on_report(self, report: wire.Answer | wire.Step | wire.Computing) -> None:
        now = time.monotonic()
        if isinstance(report, wire.Step):
            self._on_step_report(report, now)
            return
        if isinstance(report, wire.Computing):
            self._on_sign_of_life(report, now)
            return
        self._watchdog.answered(report.id, now)
        stream = self._streams.get(report.id)
        if stream is None:
            return
        match report:
            case wire.Admitted():
                self._watchdog.admitted(report.id, now)
                stream.admit(report)
            case wire.Refused():
                stream.end(endings.refused(report, stream.max_tokens), now)
                self._settle(stream, now)
            case _:
                stream.admit(report)
                self._settle(stream, now)

    def on_death(self) -> None:
        """(1) What nobody reads any more is settled. (2) What has begun is over. (3) What two
        engines died with is over. (4) What waited through two deaths is told so. The rest stays.
        """
        now = time.monotonic()
        if self._facts.done():
            self._facts = _future()
        self._watchdog.forget()
        self._processors.leave(self)
        for stream in self._streams:
            stream.deaths += 1
            if ending := endings.after_death(stream, self.model):  # (2, 3, 4)
                stream.end(ending, now)
            if stream.closed:  # (1) and after the others
                self._settle(stream, now)
            else:
                stream.restart()
        self._last_step += 1
        self._observer.on_steps(self.model, (idle_step(self._last_step),))

    def on_restart(self, decision: Again) -> None:
        now = time.monotonic()
        for stream in self._streams:
            if stream.deadline <= now + decision.after:
                self._end(stream, out_of_time(stream), now)

    def on_load_failure(self, reason: LoadFailure) -> None:
        self._observer.on_model(ModelLoadFailed(self.model, reason))

    def on_failure(self, error: ServiceError) -> None:
        self.end_all(endings.failed(error))
        self._on_change(self)

    # Its own

    def _on_step_report(self, step: wire.Step, now: float) -> None:
        """One pass over what a step brought; each reader is woken once, by its first event."""
        for id, event in step.outputs:
            stream = self._streams.get(id)
            if stream is None:
                continue
            if not stream.push(event, now):
                self._end(stream, endings.slow_reader(), now)
            elif stream.complete:
                self._settle(stream, now)
        for id, tokens in step.stats.prefill_progress:
            if (stream := self._streams.get(id)) is not None:
                stream.scheduled = True
                stream.prefilled_tokens = tokens
        self._watchdog.stepped(now)
        self._last_step = step.stats.number
        self._observer.on_steps(self.model, (step.stats,))

    def _on_sign_of_life(self, sign: wire.Computing, now: float) -> None:
        for id in sign.requests:
            if (stream := self._streams.get(id)) is not None:
                stream.scheduled = True
        self._watchdog.stepped(now)

    def _send(self, stream: EngineStream, now: float) -> None:
        assert stream.frame is not None
        stream.sent = now
        self._watchdog.submitted(stream.id, now)
        if on_processors(self.supervisor.facts):
            self._processors.join(self)
        self.supervisor.send(stream.frame)

    def _end(self, stream: EngineStream, ending: Ending, now: float) -> None:
        """The reader's side at once; the engine's, if it has one, within a step."""
        if stream.closed:
            return
        stream.end(ending, now)
        if stream.sent is None:
            self._settle(stream, now)
        else:
            self.supervisor.send(wire.encode(wire.Cancel(stream.id)))

    def _settle(self, stream: EngineStream, now: float) -> None:
        if not self._streams.close(stream, now):
            return
        self._watchdog.settled(stream.id)
        self.used = now
        stream.settle()
        if self.idle:
            self._processors.leave(self)
            self._on_change(self)

    def _tick(self, now: float, late: float) -> None:
        """All that only time can tell, while there are requests."""
        if late > LATE_SECONDS:
            self._watchdog.excuse(now)
        elif self._watchdog.wedged(now):
            self.supervisor.kill(f"made no progress for {self._limits.step_timeout:g} s")
        for stream in self._streams:
            if ending := overdue(stream, now, self._limits, self.places):
                self._end(stream, ending, now)
        if self._streams:
            self._ticks.soon()


def on_processors(facts: ModelFacts | None) -> bool:
    """Whether any layer is computed there: those of a GPU wait for it."""
    return facts is not None and facts.gpu_layers < facts.n_layer


def _future() -> asyncio.Future[ModelFacts]:
    return asyncio.get_running_loop().create_future()
