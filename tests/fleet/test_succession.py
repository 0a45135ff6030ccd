"""Whether a model can be loaded anew beside itself. What comes of it is in tests/test_reconfiguration.py."""

from __future__ import annotations

import pytest

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.fleet.placing import Attempt
from service.fleet.succession import beside
from service.fleet.vetting import Unloadable

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
