"""Which models have an engine. A model gets one when it is first asked for, and keeps it until
another needs the room or nobody has asked for it for as long as its `keep_alive` says.

Where there is no room, requests wait in the queue of a model that is not loaded yet, and the
models are loaded in the order in which they were first asked for. Who goes for them is decided
in `room`. One that is sent away finishes what it has; what is asked of it meanwhile waits with
the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.facts import Adapter
from service.fleet.calibration import Learnt
from service.fleet.child import ENGINE
from service.fleet.devices import gpus
from service.fleet.engine_factory import EngineFactory
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.load_parameters import LoadParameters
from service.fleet.load_queue import LoadQueue
from service.fleet.parameters import changed_limits, engine_params, limits_from, ways
from service.fleet.placer import Attempt, PlaceModel, Placer
from service.fleet.residents import Occupant, Residents, turn_ends
from service.fleet.stream import Ending
from service.fleet.succession import Succession
from service.fleet.vetting import Vet
from service.fleet.wishes import covered, granted, worth_reloading
from service.generation import LoadWishes
from service.settings import Settings
from service.stats import Observer, Unloading

AS_IT_IS: Final = LoadWishes()


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
        # What loads took of what was predicted: whoever judges placements goes by it too.
        self.learnt = Learnt(settings.state_dir / "calibration.json")
        self._parameters = LoadParameters(settings)
        self._residents = Residents(observer, settings.keep_alive)
        self._load_queue = LoadQueue(self._residents, settings.max_loaded_models)
        self._engines = EngineFactory(
            self._residents,
            self._load_queue,
            observer,
            command=command,
            limits=limits or limits_from(settings),
            vet=vet,
            placer=placer or Placer(gpus, self.learnt),
        )
        self._heirs: Succession | None = None

    @property
    def hosts(self) -> list[EngineHost]:
        """Those that go included."""
        return self._residents.hosts

    @property
    def idle(self) -> bool:
        return all(host.idle for host in self.hosts)

    def find(self, card: ModelCard) -> EngineHost | None:
        """The engine that a request for it would get, or had it come before the model had to go."""
        return next(iter(self.all_of(card)), None)

    def all_of(self, card: ModelCard) -> list[EngineHost]:
        """That, and those before it that have not finished yet."""
        return self._residents.all_of(self._key(card))

    # Settings that change

    def affected(self, settings: Settings) -> dict[str, ModelCard]:
        """Those that have an engine, or wait for one, and would be loaded in another way."""
        before = self._parameters.settings
        return {
            key: resident.card
            for key, resident in self._residents
            if ways(resident.card, before) != ways(resident.card, settings)
        }

    def succession(self, settings: Settings) -> Succession:
        self._heirs = Succession(self, settings)
        return self._heirs

    def heir(
        self, card: ModelCard, params: EngineParams, placed: EngineParams, settings: Settings
    ) -> EngineHost:
        """An engine for the time after: nobody is sent to it yet."""
        return self._engines.make(self.key(card, settings), card, params, placed=placed)

    def swap(
        self, key: str, card: ModelCard, params: EngineParams, fallback: EngineParams | None = None
    ) -> EngineHost:
        """What runs finishes first, what comes waits."""
        if key in self._load_queue:
            # It has gone meanwhile and is wanted again: it comes in this way by itself.
            host = self._residents[key].host
            host.supervisor.params = params
            return host
        return self._make(key, card, params, fallback)

    async def attempt(self, card: ModelCard, params: EngineParams) -> Attempt:
        """Where it would go as things are, with the one that serves in its place."""
        return await self._engines.attempt(card, params)

    def params(self, card: ModelCard, settings: Settings) -> EngineParams:
        """What runs at the moment may have other adapters than the settings say."""
        return self._parameters.of(card, settings)

    def key(self, card: ModelCard, settings: Settings) -> str:
        return self._parameters.key(card, settings)

    def adopt(self, settings: Settings, succession: Succession) -> None:
        """From now on; all at once. (1) Requests go to the heirs. (2) What was loaded in the old
        way meanwhile goes, and comes in the new one when it is asked for. (3) Threads need no
        load."""
        before, self._parameters.settings = self._parameters.settings, settings
        self._engines.limits = limits = changed_limits(self._engines.limits, before, settings)
        self._residents.keep_alive.default = settings.keep_alive
        self._load_queue.most = settings.max_loaded_models
        for key, (card, heir) in succession.heirs.items():  # (1)
            self._inherit(key, card, heir)
        heirs = {id(heir) for _, heir in succession.heirs.values()}
        for key, resident in self._residents:
            card, host = resident.card, resident.host
            if id(host) in heirs or key in succession.swapped:
                continue
            if ways(card, before) != ways(card, settings):  # (2)
                if key in self._load_queue:
                    host.supervisor.params = self._parameters.of(card)
                else:
                    self._residents.send_away(key, "reload")
            elif (threads := engine_params(card, settings).threads) != host.params.threads:
                host.set_threads(threads)  # (3)
        for host in self.hosts:
            host.adopt(limits)
        for key, resident in self._residents:
            self._residents.rests(key, resident.host)
        succession.heirs = {}
        self._load_queue.invite()

    def _inherit(self, key: str, card: ModelCard, heir: EngineHost) -> None:
        if key in self._load_queue:
            # It has gone meanwhile and is wanted again: it comes in the new way by itself.
            self._residents[key].host.supervisor.params = heir.params
            self._residents.see_off(key, heir, "reload")
            return
        self._residents.succeed(key, "reload", self._key(card), Occupant(card, heir))

    # Engines

    def host(self, card: ModelCard, wishes: LoadWishes = AS_IT_IS) -> EngineHost:
        """The model's engine, which loads once a request has entered it. All who ask meanwhile
        get the same.

        (1) A file that failed and has changed since is a new one. (2) Where the model has to be
        loaded in another way, what runs finishes first, and what comes waits; where it cannot be,
        it is loaded as before.
        """
        key = self._key(card)
        resident = self._residents.get(key)
        if resident is None:
            return self._make(key, card, granted(self._parameters.of(card), wishes))
        host = resident.host
        if (
            host.supervisor.state == "failed"
            and key not in self._load_queue
            and changed(resident.card, card)
        ):  # (1)
            params = granted(self._parameters.of(card), wishes)
            return self._make(key, card, params, reason="changed")
        if better := reload_for(wishes, resident):  # (2)
            before = host.params
            return self._make(key, card, granted(before, better), before, reloaded_for=better)
        return host

    def adapt(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> EngineHost:
        """The model's engine with other adapters: what runs on the one that is there finishes
        first. Where it cannot be loaded with them, it is loaded as before."""
        key = self._key(card)
        host = self._residents.host(key)
        before = self._parameters.of(card) if host is None else host.params
        return self._make(key, card, replace(before, adapters=adapters), fallback=before)

    def _make(
        self,
        key: str,
        card: ModelCard,
        params: EngineParams,
        fallback: EngineParams | None = None,
        *,
        reason: Unloading = "reload",
        reloaded_for: LoadWishes | None = None,
    ) -> EngineHost:
        """For the one that is there, if there is one, which finishes what it has."""
        host = self._engines.make(key, card, params, fallback)
        self._residents.succeed(key, reason, key, Occupant(card, host, reloaded_for))
        return host

    def _key(self, card: ModelCard) -> str:
        return self._parameters.key(card)

    def adapters(self, card: ModelCard) -> tuple[Adapter, ...]:
        """Those that the model is, or will be, loaded with."""
        host = self._residents.host(self._key(card))
        return self._parameters.adapters(card) if host is None else host.params.adapters

    def keep_adapters(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> None:
        """Those that it has, with these scales: from the next request on, and in later loads."""
        self._parameters.keep(card, adapters)
        if (host := self._residents.host(self._key(card))) is not None:
            host.supervisor.params = replace(host.params, adapters=adapters)

    # Coming, staying and going

    def load(self, card: ModelCard) -> EngineHost:
        """Before anybody asks for it."""
        host = self.host(card)
        self._load_queue.want(self._key(card))
        return host

    def pin(self, cards: Iterable[ModelCard]) -> None:
        """These stay, whatever else is asked for, and are loaded before anybody asks."""
        cards = list(cards)
        self._residents.pinned = frozenset(map(self._key, cards))
        for card in cards:
            self.load(card)

    def keep_alive(self, card: ModelCard) -> float:
        """The seconds for which the model stays when it is idle; negative: for ever."""
        key = self._key(card)
        return -1.0 if key in self._residents.pinned else self._residents.keep_alive.seconds(key)

    def keep(self, card: ModelCard, seconds: float) -> None:
        """From now on; the last who says it counts. An idle model begins to wait anew."""
        key = self._key(card)
        if (host := self._residents.host(key)) is not None:
            self._residents.keep_alive.keep(key, seconds)
            self._residents.rests(key, host)

    def expires(self, card: ModelCard) -> float | None:
        """When it will go if nobody asks for it, in monotonic seconds; None: not while it works,
        and never where it is kept for ever."""
        key = self._key(card)
        host = self._residents.host(key)
        return self._residents.keep_alive.expires(key) if host is not None and host.idle else None

    async def unload(self, card: ModelCard) -> None:
        """Comes back when it is gone; what runs may finish, what comes meanwhile gets a new engine."""
        key = self._key(card)
        if key in self._residents and key not in self._load_queue:
            self._residents.send_away(key, "requested")
        if going := self._residents.going(key):
            await asyncio.wait(going)

    def end_all(self, ending: Ending) -> None:
        for host in self.hosts:
            host.end_all(ending)

    async def close(self) -> None:
        self._load_queue.close()
        if self._heirs is not None:
            await asyncio.gather(*(heir.close() for _, heir in self._heirs.heirs.values()))
        await self._residents.close()


def reload_for(wishes: LoadWishes, resident: Occupant) -> LoadWishes | None:
    """What of the wishes it is worth loading anew for, but for what could not be granted before."""
    supervisor, ends = resident.host.supervisor, turn_ends(resident.host)
    if supervisor.facts is None or ends is None:
        return None
    better = worth_reloading(wishes, supervisor.facts, turn_over=time.monotonic() >= ends)
    last = resident.reloaded_for
    if better and supervisor.fell_back and last and covered(better, last):
        return None
    return better


def changed(known: ModelCard, card: ModelCard) -> bool:
    return (known.size_bytes, known.modified) != (card.size_bytes, card.modified)
