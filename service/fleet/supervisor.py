"""Keeps one model's engine process alive, or says why not.

    unloaded → loading → ready ⇄ restarting
                  ↓                   ↓
                  └────→ failed ←─────┘      until its rest is over

A process that *reports* that it cannot load is believed, and not asked again for a while. One that
dies, loading or serving, is started again as `restarts` decides. What that means for requests is
the business of the `Witness`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal, Protocol

from msgspec.structs import replace

from service.engine import wire
from service.errors import InsufficientMemory, ModelLoadFailed, ModelUnavailable, ServiceError
from service.facts import ModelFacts
from service.fleet.child import Child
from service.fleet.limits import Limits
from service.fleet.restarts import Again, GiveUp, Restarts
from service.fleet.vetting import Unloadable
from service.stats import LoadFailure

logger = logging.getLogger(__name__)

State = Literal["unloaded", "loading", "ready", "failed", "restarting"]

# An engine that closed its socket gets this long to be dead of what it dies of.
AUTOPSY_SECONDS: Final = 1.0

_UNLOADABLE: Final = {
    "not_found": "its file is gone",
    "out_of_memory": "there is not enough memory for it",
    "bad_file": "its file is damaged",
    "unsupported": "this version of llama.cpp does not support it",
    "timeout": "loading takes too long",
    "crash": "llama.cpp ends over it",
}


# Where the model goes, as things are at the moment.
Place = Callable[[wire.EngineParams], Awaitable[wire.EngineParams | Unloadable]]


class Witness(Protocol):
    """`on_death` comes at once; `on_restart` or `on_failure` when the process has been buried."""

    def on_ready(self, facts: ModelFacts, seconds: float) -> None: ...

    def on_load_failure(self, reason: LoadFailure) -> None: ...

    def on_report(self, report: wire.Answer | wire.Step | wire.Computing) -> None: ...

    def on_death(self) -> None: ...

    def on_restart(self, decision: Again) -> None: ...

    def on_failure(self, error: ServiceError) -> None: ...


class Supervisor:
    def __init__(
        self,
        model: str,
        params: wire.EngineParams,
        limits: Limits,
        witness: Witness,
        command: tuple[str, ...],
        vet: Callable[[], Awaitable[Unloadable | None]] | None = None,
        fallback: wire.EngineParams | None = None,
        place: Place | None = None,
    ) -> None:
        self.state: State = "unloaded"
        # Why it failed or had to be restarted, for operators.
        self.reason: str | None = None
        self.facts: ModelFacts | None = None
        self.load_fraction: float | None = None
        self.deaths = 0
        self._model = model
        self.params = params
        self.limits = limits
        self._witness = witness
        self._command = command
        self._vet = vet
        self._fallback = fallback
        self._place = place
        # Whether it serves with those, since it could not be loaded with the others; and why not.
        self.fell_back = False
        self.refusal: str | None = None
        # What the living engine was given, where `params` has changed since.
        self.loaded_with = params
        self._restarts = Restarts(first=limits.restart_pause)
        self._child: Child | None = None
        self._load: asyncio.Future[wire.Ready | wire.LoadFailed] | None = None
        self._life: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._failure: type[ServiceError] = ModelUnavailable
        self._failure_message = ""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    @property
    def living(self) -> bool:
        """It has an engine, or is about to have one."""
        return self._life is not None and not self._life.done()

    def start(self, after: Iterable[asyncio.Task[None]] = ()) -> None:
        """Begins to load, once the tasks in `after` have made room."""
        if not self.living:
            self.state = "loading"
            self._life = asyncio.create_task(self._live(tuple(after)))

    def send(self, frame: bytes) -> None:
        if self._child is not None:
            self._child.send(frame)

    def kill(self, verdict: str) -> None:
        if self._child is not None:
            self._child.kill(verdict)

    async def stop(self) -> None:
        """Comes back when the process is gone."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait({life})
        self.state = "unloaded"
        self.facts = self.load_fraction = None

    def resting(self, now: float) -> ServiceError | None:
        """The error for whoever asks, while it has failed and is not to be tried again."""
        if self.state != "failed" or now >= self._rests_until:
            return None
        return self._failure(self._failure_message, retry_after=self._rests_until - now)

    async def _live(self, after: tuple[asyncio.Task[None], ...]) -> None:
        if after:
            await asyncio.wait(after)
        try:
            await self._live_and_die()
        except Exception:
            # Whatever it is, requests must not wait for an engine that nobody starts.
            logger.exception("the supervisor of %s broke", self._model)
            self.reason = "the service made an error"
            message = f"The model `{self._model}` is not available."
            rest = self.limits.rest_after_bad_load
            self._fail(ModelUnavailable, message, rest, time.monotonic())

    async def _live_and_die(self) -> None:
        if self._vet is not None and (unloadable := await self._vet()) is not None:
            self._refuse(unloadable, time.monotonic())
            return
        while True:
            unloadable, ended = await self._one_life()
            self.facts = self.load_fraction = None
            now = time.monotonic()
            if self._fallback is not None:
                self.refusal = unloadable.message if unloadable is not None else ended
                logger.warning(
                    "%s cannot be loaded as was asked (%s); then as before",
                    self._model,
                    self.refusal,
                )
                if unloadable is not None:
                    self._witness.on_load_failure(unloadable.kind)
                self.params, self._fallback, self.fell_back = self._fallback, None, True
                continue
            if unloadable is not None:
                self._refuse(unloadable, now)
                return
            self.deaths += 1
            self.reason = f"its engine died: {ended}"
            decision = self._restarts.died(now)
            if isinstance(decision, GiveUp):
                self._give_up(ended, decision, now)
                return
            logger.warning(
                "the engine of %s died (%s); next start in %g s", self._model, ended, decision.after
            )
            self._witness.on_restart(decision)
            await asyncio.sleep(decision.after)

    async def _one_life(self) -> tuple[Unloadable | None, str]:
        """From birth to burial: what kept it from loading, if it said so, and how it ended."""
        params = self.params
        if self._place is not None:
            placed = await self._place(params)
            if isinstance(placed, Unloadable):
                return placed, "there was no place for it"
            params = placed
        self.loaded_with = params
        child = self._child = Child(self._model, self._on_report)
        unloadable: Unloadable | None = None
        grace = self.limits.stop_grace
        try:
            await child.start(self._command)
            child.send(wire.encode(wire.Load(params)))
            unloadable = await self._until_loaded(child)
            if unloadable is None:
                await child.lost
                grace = AUTOPSY_SECONDS
                if self.facts is None:
                    self._witness.on_load_failure("crash")
                self.state = "restarting" if self.facts else "loading"
                self._witness.on_death()
        except OSError as error:
            logger.error("no engine process for %s: %s", self._model, error)
            self._witness.on_death()
            return None, "could not be started"
        finally:
            ended = await child.end(grace)
            self._child = None
        if unloadable is None and str(child.last_words):
            logger.warning("the engine of %s wrote at last: %s", self._model, child.last_words)
        kind = child.last_words.kind()
        return unloadable, f"{ended}, {kind}" if kind else ended

    async def _until_loaded(self, child: Child) -> Unloadable | None:
        """None where it loaded, and where it died of it."""
        began = time.monotonic()
        self._load = load = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait(
            {load, child.lost},
            timeout=self.limits.load_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            child.kill("took too long to load")
            return Unloadable("timeout", f"more than {self.limits.load_timeout:g} s")
        if not load.done():
            return None
        report = load.result()
        if isinstance(report, wire.LoadFailed):
            return Unloadable(report.kind, report.message)
        seconds = time.monotonic() - began
        logger.info("%s is loaded, %.1f s", self._model, seconds)
        self.state = "ready"
        self.reason = None
        self._fallback = None
        self.facts = report.facts
        self.load_fraction = None
        self._witness.on_ready(report.facts, seconds)
        return None

    def _on_report(self, report: wire.Report) -> None:
        match report:
            case wire.Ready() | wire.LoadFailed():
                if self._load is not None and not self._load.done():
                    self._load.set_result(report)
            case wire.LoadProgress():
                self.load_fraction = report.fraction
            case wire.Probed():
                pass
            case wire.ThreadsSet():
                if self.facts is not None:
                    self.facts = replace(self.facts, threads=report.threads)
            case wire.Fatal():
                logger.error("the engine of %s gave up: %s", self._model, report.message)
                self.kill("gave up")
            case _:
                self._witness.on_report(report)

    def _refuse(self, unloadable: Unloadable, now: float) -> None:
        no_memory = unloadable.kind == "out_of_memory"
        limits = self.limits
        rest = limits.rest_after_no_memory if no_memory else limits.rest_after_bad_load
        why = _UNLOADABLE.get(unloadable.kind, "its engine refuses it")
        self.reason = f"{why} ({unloadable.message})"
        self._witness.on_load_failure(unloadable.kind)
        error = InsufficientMemory if no_memory else ModelLoadFailed
        self._fail(error, f"The model `{self._model}` cannot be loaded: {why}.", rest, now)

    def _give_up(self, ended: str, decision: GiveUp, now: float) -> None:
        self.reason = f"its engine died too often, last of: {ended}"
        message = f"The model `{self._model}` is not available: its engine keeps stopping."
        self._fail(ModelUnavailable, message, decision.until - now, now)

    def _fail(self, error: type[ServiceError], message: str, rest: float, now: float) -> None:
        logger.error("%s has failed: %s", self._model, self.reason)
        self.state = "failed"
        self._rests_until = now + rest
        self._failure, self._failure_message = error, message
        self._witness.on_failure(error(message, retry_after=rest))
