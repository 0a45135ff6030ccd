"""Whether a model can be loaded anew beside itself. What comes of it is in tests/tuning/test_reconfiguration.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.facts import ModelFacts
from service.fleet.placer import Attempt
from service.fleet.residency import Residency
from service.fleet.succession import beside, stunted
from service.fleet.vetting import Unloadable
from service.settings import Settings
from tests.dialects.fakes import FACTS
from tests.fleet.fakes import FAKE, QUICK, Seen, card, until, write_script

GIB = 1 << 30
CARD = ModelCard("m:latest", "/m.gguf", 10 * GIB, 0.0, "directory")
MAPPED = EngineParams("/m.gguf")
READ = EngineParams("/m.gguf", use_mmap=False)
LOCKED = EngineParams("/m.gguf", use_mlock=True)


@pytest.mark.parametrize(
    ("attempt", "available", "room"),
    [
        (Attempt(MAPPED), 0, True),
        (Attempt(MAPPED, cramped=True), 99 * GIB, False),
        (Attempt(Unloadable("out_of_memory", "full"), cramped=True), 99 * GIB, False),
        (Attempt(READ), 10 * GIB, False),
        (Attempt(READ), 11 * GIB, True),
        (Attempt(LOCKED), 10 * GIB, False),
    ],
    ids=["pages are shared", "GPUs are full", "all is full", "weights are read", "twice", "locked"],
)
def test_there_is_room_for_two_where_memory_holds_what_they_do_not_share(
    attempt: Attempt, available: int, room: bool
) -> None:
    assert beside(attempt, CARD, available) is room


def facts(n_ctx: int, n_seq: int = 4) -> ModelFacts:
    return replace(FACTS, n_ctx=n_ctx, n_seq=n_seq, n_ctx_train=4096)


@pytest.mark.parametrize(
    ("wanted", "before", "after", "less"),
    [
        (None, facts(16384), facts(16384), False),
        (None, facts(16384), facts(8192), True),
        (8192, facts(16384), facts(8192), False),
        (None, facts(16384), facts(8192, n_seq=2), False),
        (None, facts(8192), facts(16384), False),
        (None, None, facts(4096), False),
    ],
    ids=["the same", "less", "as told", "all that fewer can use", "more", "it was gone"],
)
def test_a_context_that_is_shorter_for_want_of_memory_alone_is_seen(
    wanted: int | None, before: ModelFacts | None, after: ModelFacts, less: bool
) -> None:
    assert stunted(EngineParams("/m.gguf", n_ctx=wanted), before, after) is less


class Placer:
    """Says one place, always the same."""

    def __init__(self, answer: EngineParams) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self, card: ModelCard, params: EngineParams) -> Attempt:
        self.asked += 1
        return Attempt(self.answer)

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        pass


async def test_one_that_was_loaded_beside_another_is_placed_anew_when_its_engine_dies(
    tmp_path: Path,
) -> None:
    found = card(write_script(tmp_path))
    params = EngineParams(found.path)
    placer = Placer(replace(params, n_ctx=4 * 1024))
    models = Residency(Settings(), Seen(), command=FAKE, limits=QUICK, placer=placer)
    heir = models.heir(found, params, replace(params, n_ctx=4 * 2048), Settings())
    lengths = []
    try:
        for deaths in (0, 1):
            heir.start()
            await until(lambda: heir.supervisor.state == "ready")
            assert heir.supervisor.facts is not None
            lengths.append(heir.supervisor.facts.n_ctx)
            assert heir.supervisor.deaths == placer.asked == deaths
            heir.supervisor.kill("the test wants it")
            await until(lambda: heir.supervisor.state != "ready")
    finally:
        await heir.close()

    assert lengths == [4 * 2048, 4 * 1024]
