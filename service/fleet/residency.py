"""Which models have an engine. A model gets one when it is first asked for, and keeps it until
another needs the room or nobody has asked for it for as long as its `keep_alive` says."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.errors import ModelUnavailable
from service.fleet.child import ENGINE
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.stream import Ending
from service.settings import Settings
from service.stats import ModelUnloaded, Observer, Unloading

logger = logging.getLogger(__name__)

# As many as Ollama keeps on a machine without GPUs.
MAX_LOADED: Final = 3
UNLOAD_POLL_SECONDS: Final = 0.05


class Residency:
    """One host for one file: two names of the same file share an engine and its memory."""

    def __init__(
        self,
        settings: Settings,
        observer: Observer,
        *,
        command: tuple[str, ...] = ENGINE,
        max_loaded: int = MAX_LOADED,
        limits: Limits | None = None,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._command = command
        self._max_loaded = max_loaded
        self._limits = limits or limits_from(settings)
        self._hosts: dict[str, EngineHost] = {}
        self._cards: dict[str, ModelCard] = {}
        # Seconds; where a request said how long.
        self._keep_alive: dict[str, float] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def hosts(self) -> list[EngineHost]:
        return list(self._hosts.values())

    @property
    def idle(self) -> bool:
        return all(host.idle for host in self._hosts.values())

    def find(self, card: ModelCard) -> EngineHost | None:
        return self._hosts.get(_key(card))

    def host(self, card: ModelCard) -> EngineHost:
        """The model's engine, loading if need be. All who ask meanwhile get the same.

        (1) A file that failed and has changed since is a new one. (2) Where too many are loaded,
        the idle one that was used longest ago goes; (3) where none is idle there is no room.
        """
        key = _key(card)
        host = self._hosts.get(key)
        if host is not None and host.supervisor.state == "failed" and self._changed(key, card):
            self._dismiss(key, "changed")  # (1)
            host = None
        if host is None:
            self._make_room()
            host = self._hosts[key] = EngineHost(
                card.name,
                engine_params(card, self._settings),
                self._limits,
                self._observer,
                command=self._command,
                on_idle=lambda: self._expire_later(key),
            )
            self._cards[key] = card
            host.start(after=self._leaving)
        return host

    def keep_alive(self, card: ModelCard) -> float:
        """The seconds for which the model stays when it is idle; negative: for ever."""
        return self._keep_alive.get(_key(card), self._settings.keep_alive)

    def keep(self, card: ModelCard, seconds: float) -> None:
        """From now on; the last who says it counts. An idle model begins to wait anew."""
        key = _key(card)
        if (host := self._hosts.get(key)) is not None:
            self._keep_alive[key] = seconds
            if host.idle and host.supervisor.state == "ready":
                self._expire_later(key)

    def expires(self, card: ModelCard) -> float | None:
        """When it will go if nobody asks for it, in monotonic seconds; None: not while it works,
        and never where it is kept for ever."""
        key = _key(card)
        timer, host = self._expiries.get(key), self._hosts.get(key)
        return timer.when() if timer is not None and host is not None and host.idle else None

    async def unload(self, card: ModelCard) -> None:
        """Comes back when it is gone; what runs may finish, what comes meanwhile gets a new engine."""
        key = _key(card)
        host = self._hosts.get(key)
        if host is None:
            return
        while not host.idle:  # noqa: ASYNC110  asked for seldom, and by operators
            await asyncio.sleep(UNLOAD_POLL_SECONDS)
        if self._hosts.get(key) is host:
            self._dismiss(key, "requested")
        if self._leaving:
            await asyncio.wait(set(self._leaving))

    def end_all(self, ending: Ending) -> None:
        for host in self._hosts.values():
            host.end_all(ending)

    async def close(self) -> None:
        for key in list(self._hosts):
            self._dismiss(key, "shutdown")
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _changed(self, key: str, card: ModelCard) -> bool:
        known = self._cards[key]
        return (known.size_bytes, known.modified) != (card.size_bytes, card.modified)

    def _make_room(self) -> None:
        # A failed one holds no memory.
        loaded = {key: h for key, h in self._hosts.items() if h.supervisor.state != "failed"}
        if len(loaded) < self._max_loaded:
            return
        idle = [key for key, host in loaded.items() if host.idle]
        if not idle:  # (3)
            raise ModelUnavailable(
                f"{len(loaded)} models are loaded, and all of them are busy.", retry_after=5.0
            )
        oldest = min(idle, key=lambda key: loaded[key].used)  # (2)
        logger.info("%s makes room, idle for %.0f s", loaded[oldest].model, _idle(loaded[oldest]))
        self._dismiss(oldest, "evicted")

    def _expire_later(self, key: str) -> None:
        self._no_expiry(key)
        if (host := self._hosts.get(key)) is None:
            return
        seconds = self._keep_alive.get(key, self._settings.keep_alive)
        if seconds >= 0 and host.supervisor.state == "ready":
            loop = asyncio.get_running_loop()
            self._expiries[key] = loop.call_later(seconds, self._expire, key, host)

    def _no_expiry(self, key: str) -> None:
        if (timer := self._expiries.pop(key, None)) is not None:
            timer.cancel()

    def _expire(self, key: str, host: EngineHost) -> None:
        del self._expiries[key]
        if self._hosts.get(key) is host and host.idle:
            logger.info("%s goes, idle for %.0f s", host.model, _idle(host))
            self._dismiss(key, "idle")

    def _dismiss(self, key: str, reason: Unloading) -> None:
        if self._hosts[key].supervisor.facts is not None:
            self._observer.on_model(ModelUnloaded(self._hosts[key].model, reason))
        del self._cards[key]
        self._keep_alive.pop(key, None)
        self._no_expiry(key)
        task = asyncio.create_task(self._hosts.pop(key).close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def _key(card: ModelCard) -> str:
    return os.path.realpath(card.path)


def _idle(host: EngineHost) -> float:
    return time.monotonic() - host.used


def limits_from(settings: Settings) -> Limits:
    return Limits(
        queue=settings.queue_limit,
        queue_timeout=settings.queue_timeout,
        step_timeout=settings.step_timeout,
    )


def engine_params(card: ModelCard, settings: Settings) -> EngineParams:
    return EngineParams(
        path=card.path,
        n_ctx=settings.default_context_size,
        n_seq=settings.parallel_slots,
        n_batch=settings.batch_size,
        threads=settings.threads,
        gpu_layers=settings.gpu_layers,
        tensor_split=settings.tensor_split,
        kv_layout=settings.kv_cache,
        prefill_chunk=settings.prefill_chunk,
    )
