"""Models that are loaded in another way while they serve, for settings that change.

Where there is memory for both, the new engine is loaded beside the old one and computes a token;
requests go to it from one moment to the next, and the old one finishes what it has. Where there is
not, requests wait while the old one finishes and the new one is loaded in its place. In neither
case does one fail. An engine that cannot be loaded so refuses the whole change.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.errors import ChangeRefused, ServiceError
from service.events import Finished, FinishReason
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.placer import Attempt
from service.fleet.vetting import Unloadable
from service.generation import SamplingParams, Text
from service.host_memory import host_memory
from service.settings import Settings

if TYPE_CHECKING:
    from service.fleet.residency import Residency

logger = logging.getLogger(__name__)

# Beside what loading may take, which the engine's own limits say.
LONGEST_SECONDS: Final = 3600.0
# Of what is estimated for weights that are read into memory.
MARGIN: Final = 1.1


class Succession:
    """One change, for all models that it concerns: `prepare`, then `Residency.adopt` or `abandon`."""

    def __init__(self, residency: Residency, settings: Settings) -> None:
        self.settings = settings
        # Loaded and warm, beside those that serve.
        self.heirs: dict[str, tuple[ModelCard, EngineHost]] = {}
        # In their place already; with what they were loaded with before.
        self.swapped: dict[str, tuple[ModelCard, EngineParams]] = {}
        self._residency = residency
        # Nothing can be proved with them: the next request that they get loads them so.
        self._passed: set[str] = set()

    @property
    def reloaded(self) -> tuple[str, ...]:
        cards = [card for card, _ in (*self.heirs.values(), *self.swapped.values())]
        return tuple(sorted(card.name for card in cards))

    async def prepare(self) -> None:
        """Raises ChangeRefused, and then all is as before."""
        try:
            # Others may be loaded in the old way meanwhile.
            while todo := self._todo():
                for key, card in todo:
                    await self._succeed(key, card)
        except BaseException:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        heirs, self.heirs = self.heirs, {}
        for _, heir in heirs.values():
            await heir.close()
        swapped, self.swapped = self.swapped, {}
        for key, (card, before) in swapped.items():
            host = self._residency.swap(key, card, before)
            with contextlib.suppress(ServiceError):
                await loaded(host)

    def _todo(self) -> list[tuple[str, ModelCard]]:
        done = self.heirs.keys() | self.swapped.keys() | self._passed
        affected = self._residency.affected(self.settings)
        return [(key, card) for key, card in affected.items() if key not in done]

    async def _succeed(self, key: str, card: ModelCard) -> None:
        host = self._residency.find(card)
        if host is not None and host.supervisor.state == "loading":
            with contextlib.suppress(ServiceError):
                await loaded(host)
        if host is None or host.supervisor.state not in ("ready", "restarting"):
            self._passed.add(key)
            return
        params = self._residency.params(card, self.settings)
        attempt = await self._residency.attempt(card, params)
        if isinstance(attempt.answer, Unloadable) and not attempt.cramped:
            raise refused(card, attempt.answer.message)
        if beside(attempt, card, host_memory().available):
            assert isinstance(attempt.answer, EngineParams)
            if await self._load_beside(key, card, params, attempt.answer, host.supervisor.facts):
                return
        await self._load_instead(key, card, params, host)

    async def _load_beside(
        self,
        key: str,
        card: ModelCard,
        params: EngineParams,
        placed: EngineParams,
        before: ModelFacts | None,
    ) -> bool:
        """False where it had to make do with less than it would have alone."""
        heir = self._residency.heir(card, params, placed, self.settings)
        try:
            await warm(heir)
        except ServiceError as error:
            why = heir.supervisor.reason or error.message
            await heir.close()
            raise refused(card, why) from None
        except BaseException:
            await heir.close()
            raise
        if stunted(params, before, heir.supervisor.facts):
            await heir.close()
            return False
        self.heirs[key] = card, heir
        return True

    async def _load_instead(
        self, key: str, card: ModelCard, params: EngineParams, host: EngineHost
    ) -> None:
        if self._residency.key(card, self.settings) != key:
            raise refused(card, "there is no memory for it beside itself with other adapters")
        before = host.params
        logger.info("%s is loaded in its own place: there is no room beside it", card.name)
        new = self._residency.swap(key, card, params, fallback=before)
        try:
            await loaded(new)
        except ServiceError as error:
            raise refused(card, new.supervisor.reason or error.message) from None
        if new.supervisor.fell_back:
            raise refused(card, new.supervisor.refusal or "it was refused")
        self.swapped[key] = card, before


def beside(attempt: Attempt, card: ModelCard, available: int) -> bool:
    """Whether there is memory for both. Weights that are mapped are pages that both share; those
    that are read are not, and are no part of the estimate."""
    params = attempt.answer
    if isinstance(params, Unloadable) or attempt.cramped:
        return False
    shared = params.use_mmap and not params.use_mlock
    return shared or card.size_bytes * MARGIN <= available


def stunted(params: EngineParams, before: ModelFacts | None, after: ModelFacts | None) -> bool:
    """Whether it chose a shorter context only since the other has its memory still."""
    if params.n_ctx is not None or before is None or after is None:
        return False
    return after.n_ctx < min(before.n_ctx, after.n_ctx_train * after.n_seq)


async def loaded(host: EngineHost) -> None:
    """Raises what keeps it from it."""
    now = time.monotonic()
    stream = host.enter(1, arrived=now, deadline=now + LONGEST_SECONDS)
    try:
        await host.loaded(stream)
    finally:
        host.cancel(stream)


async def warm(host: EngineHost) -> None:
    """Loaded, and with a token computed: what a GPU compiles or a disk has to bring is done."""
    now = time.monotonic()
    stream = host.enter(1, arrived=now, deadline=now + LONGEST_SECONDS)
    try:
        facts = await host.loaded(stream)
        if facts.can_generate:
            await host.submit(stream, Text("a"), SamplingParams(max_tokens=1))
            for event in await stream.take():
                if isinstance(event, Finished) and event.reason is FinishReason.ERROR:
                    raise ChangeRefused(event.error or "it computes nothing")
    finally:
        host.cancel(stream)


def refused(card: ModelCard, why: str) -> ChangeRefused:
    return ChangeRefused(
        f"The model `{card.name}` cannot be loaded so: {why}. The settings are as they were."
    )
