"""Which models have an engine. A model gets one when it is first asked for, and keeps it until
another needs the room or nobody has asked for it for as long as its `keep_alive` says.

Where there is no room, requests wait in the queue of a model that is not loaded yet, and the
models are loaded in the order in which they were first asked for. Who goes for them is decided
in `room`. One that is sent away finishes what it has; what is asked of it meanwhile waits with
the others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Iterable
from functools import partial
from typing import Final

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.errors import ModelUnavailable
from service.events import FinishReason
from service.facts import Adapter, ModelFacts
from service.fleet.adapting import configured
from service.fleet.calibration import Learnt
from service.fleet.child import ENGINE
from service.fleet.devices import gpus
from service.fleet.host import EngineHost
from service.fleet.keep_alive import KeepAlive
from service.fleet.limits import Limits
from service.fleet.parameters import changed_limits, engine_params, limits_from, ways
from service.fleet.placing import Attempt, PlaceModel, Placer
from service.fleet.room import Come, Never, Resident, Wait, make_room, turn_seconds
from service.fleet.stream import Ending
from service.fleet.succession import Succession
from service.fleet.supervisor import Place
from service.fleet.vetting import Unloadable, Vet, unfit
from service.fleet.wishes import covered, granted, worth_reloading
from service.generation import LoadWishes
from service.settings import Settings
from service.stats import ModelUnloaded, Observer, Unloading

logger = logging.getLogger(__name__)

AS_IT_IS: Final = LoadWishes()
PLACE_POLL_SECONDS: Final = 0.1


class Residency:
    """One host for one file, with its adapters: two names of the same share an engine and its
    memory."""

    def __init__(
        self,
        settings: Settings,
        observer: Observer,
        *,
        command: tuple[str, ...] = ENGINE,
        limits: Limits | None = None,
        vet: Vet | None = None,
        placer: PlaceModel | None = None,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._command = command
        self._limits = limits or limits_from(settings)
        self._vet = vet
        self._placer = placer or Placer(gpus, Learnt(settings.state_dir / "calibration.json"))
        self._hosts: dict[str, EngineHost] = {}
        self._cards: dict[str, ModelCard] = {}
        # What the engines that were loaded anew for it should have more of.
        self._reloads: dict[str, LoadWishes] = {}
        # Where they are others than the operator wrote down.
        self._adapters: dict[str, tuple[Adapter, ...]] = {}
        self._pinned: frozenset[str] = frozenset()
        self._keep_alive = KeepAlive(settings.keep_alive, self._expire)
        self._heirs: Succession | None = None
        # Those that wait for room, longest first; the keys of hosts that have not been started.
        self._wanting: list[str] = []
        self._leaving: dict[asyncio.Task[None], tuple[str, EngineHost]] = {}
        self._next_turn: asyncio.TimerHandle | None = None

    @property
    def hosts(self) -> list[EngineHost]:
        """Those that go included."""
        return [*self._hosts.values(), *(host for _, host in self._leaving.values())]

    @property
    def idle(self) -> bool:
        return all(host.idle for host in self.hosts)

    def find(self, card: ModelCard) -> EngineHost | None:
        """The engine that a request for it would get, or had it come before the model had to go."""
        return next(iter(self.all_of(card)), None)

    def all_of(self, card: ModelCard) -> list[EngineHost]:
        """That, and those before it that have not finished yet."""
        key = self._key(card)
        now = [self._hosts[key]] if key in self._hosts else []
        return now + [host for other, host in self._leaving.values() if other == key]

    # Settings that change

    def affected(self, settings: Settings) -> dict[str, ModelCard]:
        """Those that have an engine, or wait for one, and would be loaded in another way."""
        return {
            key: card
            for key, card in self._cards.items()
            if ways(card, self._settings) != ways(card, settings)
        }

    def succession(self, settings: Settings) -> Succession:
        self._heirs = Succession(self, settings)
        return self._heirs

    def heir(
        self, card: ModelCard, params: EngineParams, placed: EngineParams, settings: Settings
    ) -> EngineHost:
        """An engine for the time after: nobody is sent to it yet."""

        async def there(_: EngineParams) -> EngineParams:
            return placed

        return self._fresh(key_of(card, settings), card, params, place=there)

    def swap(
        self, key: str, card: ModelCard, params: EngineParams, fallback: EngineParams | None = None
    ) -> EngineHost:
        """What runs finishes first, what comes waits."""
        if key in self._hosts and key not in self._wanting:
            self._send_away(key, "reload")
        return self._make(key, card, params, fallback)

    async def attempt(self, card: ModelCard, params: EngineParams) -> Attempt:
        """Where it would go as things are, with the one that serves in its place."""
        return await self._placer(card, params)

    def params(self, card: ModelCard, settings: Settings) -> EngineParams:
        """What runs at the moment may have other adapters than the settings say."""
        adapters = configured(card, settings)
        if key_of(card, settings) == self._key(card):
            adapters = self._wanted_adapters(card)
        return replace(engine_params(card, settings), adapters=adapters)

    def key(self, card: ModelCard, settings: Settings) -> str:
        return key_of(card, settings)

    def adopt(self, settings: Settings, succession: Succession) -> None:
        """From now on; all at once. (1) Requests go to the heirs. (2) What was loaded in the old
        way meanwhile goes, and comes in the new one when it is asked for. (3) Threads need no
        load."""
        before, self._settings = self._settings, settings
        self._limits = changed_limits(self._limits, before, settings)
        self._keep_alive.default = settings.keep_alive
        for key, (card, heir) in succession.heirs.items():  # (1)
            self._inherit(key, card, heir)
        heirs = {id(heir) for _, heir in succession.heirs.values()}
        for key, card in list(self._cards.items()):
            host = self._hosts[key]
            if id(host) in heirs or key in succession.swapped:
                continue
            if ways(card, before) != ways(card, settings):  # (2)
                if key in self._wanting:
                    host.supervisor.params = self._params(card)
                else:
                    self._send_away(key, "reload")
            elif (threads := engine_params(card, settings).threads) != host.params.threads:
                host.set_threads(threads)  # (3)
        for host in self.hosts:
            host.adopt(self._limits)
        for key, host in self._hosts.items():
            self._rests(key, host)
        succession.heirs = {}
        self._invite()

    def _inherit(self, key: str, card: ModelCard, heir: EngineHost) -> None:
        if key in self._wanting:
            # It has gone meanwhile and is wanted again: it comes in the new way by itself.
            self._hosts[key].supervisor.params = heir.params
            task = asyncio.create_task(self._leave(heir, "reload"))
            self._leaving[task] = key, heir
            task.add_done_callback(self._left)
            return
        seconds = self._keep_alive.said(key)
        if key in self._hosts:
            self._send_away(key, "reload")
        now = self._key(card)
        self._hosts[now], self._cards[now] = heir, card
        if seconds is not None:
            self._keep_alive.keep(now, seconds)

    def host(self, card: ModelCard, wishes: LoadWishes = AS_IT_IS) -> EngineHost:
        """The model's engine, which loads once a request has entered it. All who ask meanwhile
        get the same.

        (1) A file that failed and has changed since is a new one. (2) Where the model has to be
        loaded in another way, what runs finishes first, and what comes waits; where it cannot be,
        it is loaded as before.
        """
        key = self._key(card)
        host = self._hosts.get(key)
        if host is None:
            return self._make(key, card, granted(self._params(card), wishes))
        if host.supervisor.state == "failed" and self._changed(key, card):  # (1)
            self._send_away(key, "changed")
            return self._make(key, card, granted(self._params(card), wishes))
        if better := self._worth_reloading(key, host, wishes):  # (2)
            before = host.params
            self._send_away(key, "reload")
            host = self._make(key, card, granted(before, better), fallback=before)
            self._reloads[key] = better
        return host

    def _make(
        self,
        key: str,
        card: ModelCard,
        params: EngineParams,
        fallback: EngineParams | None = None,
    ) -> EngineHost:
        self._hosts[key] = host = self._fresh(key, card, params, fallback)
        self._cards[key] = card
        return host

    def _fresh(
        self,
        key: str,
        card: ModelCard,
        params: EngineParams,
        fallback: EngineParams | None = None,
        place: Place | None = None,
    ) -> EngineHost:
        def want(host: EngineHost) -> None:
            if self._hosts.get(key) is host:
                self._want(key)
            else:
                host.start()

        return EngineHost(
            card.name,
            params,
            self._limits,
            self._observer,
            command=self._command,
            vet=partial(self._vetted, card, params.adapters),
            fallback=fallback,
            place=place or partial(self._place, key, card),
            learn=partial(self._learn, card),
            on_change=lambda host: self._on_change(key, host),
            want=want,
        )

    def _learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        if facts.gpu_layers:
            learn = partial(self._placer.learn, card, params, facts)
            asyncio.get_running_loop().run_in_executor(None, learn)

    def _key(self, card: ModelCard) -> str:
        return key_of(card, self._settings)

    async def _vetted(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> Unloadable | None:
        found = await self._vet(card) if self._vet is not None else None
        return found or await unfit(card, adapters)

    def _worth_reloading(self, key: str, host: EngineHost, wishes: LoadWishes) -> LoadWishes | None:
        facts, ends = host.supervisor.facts, _turn_ends(host)
        if facts is None or ends is None:
            return None
        better = worth_reloading(wishes, facts, turn_over=time.monotonic() >= ends)
        last = self._reloads.get(key)
        if better and host.supervisor.fell_back and last and covered(better, last):
            return None
        return better

    def _params(self, card: ModelCard) -> EngineParams:
        return replace(engine_params(card, self._settings), adapters=self._wanted_adapters(card))

    def _wanted_adapters(self, card: ModelCard) -> tuple[Adapter, ...]:
        known = self._adapters.get(self._key(card))
        return configured(card, self._settings) if known is None else known

    def adapters(self, card: ModelCard) -> tuple[Adapter, ...]:
        """Those that the model is, or will be, loaded with."""
        host = self._hosts.get(self._key(card))
        return self._wanted_adapters(card) if host is None else host.params.adapters

    def keep_adapters(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> None:
        """Those that it has, with these scales: from the next request on, and in later loads."""
        key = self._key(card)
        self._adapters[key] = adapters
        if (host := self._hosts.get(key)) is not None:
            host.supervisor.params = replace(host.params, adapters=adapters)

    def adapt(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> EngineHost:
        """The model's engine with other adapters: what runs on the one that is there finishes
        first. Where it cannot be loaded with them, it is loaded as before."""
        key = self._key(card)
        host = self._hosts.get(key)
        before = self._params(card) if host is None else host.params
        if host is not None:
            self._send_away(key, "reload")
        return self._make(key, card, replace(before, adapters=adapters), fallback=before)

    def load(self, card: ModelCard) -> EngineHost:
        """Before anybody asks for it."""
        host = self.host(card)
        self._want(self._key(card))
        return host

    def pin(self, cards: Iterable[ModelCard]) -> None:
        """These stay, whatever else is asked for, and are loaded before anybody asks."""
        cards = list(cards)
        self._pinned = frozenset(map(self._key, cards))
        for card in cards:
            self.load(card)

    def keep_alive(self, card: ModelCard) -> float:
        """The seconds for which the model stays when it is idle; negative: for ever."""
        return (
            -1.0 if self._key(card) in self._pinned else self._keep_alive.seconds(self._key(card))
        )

    def keep(self, card: ModelCard, seconds: float) -> None:
        """From now on; the last who says it counts. An idle model begins to wait anew."""
        key = self._key(card)
        if (host := self._hosts.get(key)) is not None:
            self._keep_alive.keep(key, seconds)
            self._rests(key, host)

    def expires(self, card: ModelCard) -> float | None:
        """When it will go if nobody asks for it, in monotonic seconds; None: not while it works,
        and never where it is kept for ever."""
        host = self._hosts.get(self._key(card))
        return self._keep_alive.expires(self._key(card)) if host is not None and host.idle else None

    async def unload(self, card: ModelCard) -> None:
        """Comes back when it is gone; what runs may finish, what comes meanwhile gets a new engine."""
        key = self._key(card)
        if key in self._hosts and key not in self._wanting:
            self._send_away(key, "requested")
        if going := [task for task, (other, _) in self._leaving.items() if other == key]:
            await asyncio.wait(going)

    def end_all(self, ending: Ending) -> None:
        for host in self.hosts:
            host.end_all(ending)

    async def close(self) -> None:
        self._wanting.clear()
        if self._heirs is not None:
            await asyncio.gather(*(heir.close() for _, heir in self._heirs.heirs.values()))
        if self._next_turn is not None:
            self._next_turn.cancel()
        draining = [host for _, host in self._leaving.values()]
        for key in list(self._hosts):
            self._send_away(key, "shutdown")
        await asyncio.gather(*(host.close() for host in draining))
        if self._leaving:
            await asyncio.wait([*self._leaving])

    # Coming

    def _want(self, key: str) -> None:
        if key not in self._wanting and not self._hosts[key].supervisor.living:
            self._wanting.append(key)
            self._invite()

    def _invite(self) -> None:
        """Those that wait and that there can be room for now, one at a time: where the next one
        goes depends on the memory that this one takes."""
        while self._wanting and not self._loading:
            key = self._wanting[0]
            now = time.monotonic()
            match make_room(self._fits, self._residents(), now):
                case Come(leaving):
                    for other in leaving:
                        self._send_away(other, "evicted")
                    self._wanting.pop(0)
                    self._hosts[key].start(after=self._leaving)
                case Wait(until):
                    self._invite_later(until, now)
                    return
                case Never():
                    self._wanting.pop(0)
                    self._turn_away(key)

    @property
    def _loading(self) -> bool:
        return any(host.supervisor.state == "loading" for host in self._hosts.values())

    def _fits(self, gone: Collection[str]) -> bool:
        staying = [resident for resident in self._residents() if resident.key not in gone]
        return len(staying) < self._settings.max_loaded_models

    def _residents(self) -> list[Resident]:
        """Those that hold memory, or are about to; a failed one does not."""
        return [
            Resident(
                key,
                idle=host.idle and host.supervisor.state == "ready",
                used=host.used,
                turn_ends=_turn_ends(host),
                pinned=key in self._pinned,
            )
            for key, host in self._hosts.items()
            if host.supervisor.living and host.supervisor.state != "failed"
        ]

    async def _place(
        self, key: str, card: ModelCard, params: EngineParams
    ) -> EngineParams | Unloadable:
        """Where the model goes, once those have gone that leave no room for it.

        (1) For all of it to be on GPUs, only those go that nobody asks for. (2) For it to be
        loaded at all, the others too, each after its turn. (3) It may get the room that others
        leave of their own accord, or lose whoever wanted it.
        """
        while True:
            attempt = await self._placer(card, params)
            others = [r for r in self._residents() if r.key != key]
            if isinstance(attempt.answer, EngineParams):
                others = [r for r in others if r.idle]  # (1)
            if not attempt.cramped or not others:
                return attempt.answer
            now = time.monotonic()
            match make_room(lambda gone: len(gone) > 0, others, now):  # (2)
                case Come(leaving):
                    for other in leaving:
                        self._send_away(other, "evicted")
                    await asyncio.wait([*self._leaving])
                case Wait():
                    await asyncio.sleep(PLACE_POLL_SECONDS)
                    if (host := self._hosts.get(key)) is None:
                        return attempt.answer
                    if host.idle:  # (3)
                        if isinstance(attempt.answer, Unloadable) and key not in self._pinned:
                            # Nobody waits, so nothing has failed: who comes later asks anew.
                            self._send_away(key, "idle")
                            await asyncio.Future()
                        return attempt.answer
                case Never():
                    return attempt.answer

    def _invite_later(self, until: float | None, now: float) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        if until is not None:
            loop = asyncio.get_running_loop()
            self._next_turn = loop.call_later(until - now, self._invite)

    def _turn_away(self, key: str) -> None:
        host = self._forget(key)
        error = ModelUnavailable(
            f"There is no room for the model `{host.model}` beside those that have to stay.",
            retry_after=5.0,
        )
        host.end_all(Ending(FinishReason.ERROR, error.code, error))

    # Staying and going

    def _on_change(self, key: str, host: EngineHost) -> None:
        if self._hosts.get(key) is host:
            if key in self._wanting and host.idle:
                # Whoever wanted it has gone.
                self._wanting.remove(key)
                self._forget(key)
            self._rests(key, host)
        self._invite()

    def _rests(self, key: str, host: EngineHost) -> None:
        if host.idle and host.supervisor.state == "ready" and key not in self._pinned:
            self._keep_alive.begin(key)

    def _expire(self, key: str) -> None:
        if self._hosts[key].idle:
            self._send_away(key, "idle")

    def _send_away(self, key: str, reason: Unloading) -> None:
        host = self._forget(key)
        task = asyncio.create_task(self._leave(host, reason))
        self._leaving[task] = key, host
        task.add_done_callback(self._left)

    async def _leave(self, host: EngineHost, reason: Unloading) -> None:
        if reason != "shutdown":
            await host.rest()
        if host.supervisor.facts is not None:
            logger.info("%s goes (%s)", host.model, reason)
            self._observer.on_model(ModelUnloaded(host.model, reason))
        await host.close()

    def _left(self, task: asyncio.Task[None]) -> None:
        del self._leaving[task]

    def _forget(self, key: str) -> EngineHost:
        del self._cards[key]
        self._reloads.pop(key, None)
        self._keep_alive.forget(key)
        return self._hosts.pop(key)

    def _changed(self, key: str, card: ModelCard) -> bool:
        known = self._cards[key]
        return (known.size_bytes, known.modified) != (card.size_bytes, card.modified)


def key_of(card: ModelCard, settings: Settings) -> str:
    """Of what is loaded: a file with other adapters is another model."""
    adapters = configured(card, settings)
    return "\n".join((os.path.realpath(card.path), *map(repr, adapters)))


def _turn_ends(host: EngineHost) -> float | None:
    if host.ready_since is None or host.load_seconds is None:
        return None
    return host.ready_since + turn_seconds(host.load_seconds)
