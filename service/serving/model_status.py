"""A model as it stands at this moment: on disk, and in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.catalog.card import ModelCard
from service.facts import Adapter, ModelFacts
from service.fleet.host import EngineHost
from service.fleet.residency import Residency


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model, loaded or not. `running` and `waiting` count requests, `by_api` the same of each
    dialect that has any, as (running, waiting); the capacity is of both."""

    card: ModelCard
    state: Literal["unloaded", "loading", "ready", "failed", "restarting"]
    # Why it failed, or had to be restarted.
    reason: str | None
    facts: ModelFacts | None
    load_fraction: float | None
    running: int
    waiting: int
    queue_capacity: int
    # How often its engine died, since it was first loaded.
    deaths: int = 0
    pid: int | None = None
    by_api: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # Seconds that it stays when idle (negative: for ever); None where it is not loaded.
    keep_alive: float | None = None
    # When it goes, in monotonic seconds; None while it works, and where it stays for ever.
    expires: float | None = None
    # That it is, or will be, loaded with.
    adapters: tuple[Adapter, ...] = ()


def status_of(card: ModelCard, residency: Residency, places: int) -> ModelStatus:
    """`places`: the capacity of its queue, as long as it has no engine that could say."""
    host = residency.find(card)
    if host is None:
        return ModelStatus(
            card,
            state="failed" if card.problem else "unloaded",
            reason=card.problem,
            facts=None,
            load_fraction=None,
            running=0,
            waiting=0,
            queue_capacity=places,
            adapters=residency.adapters(card),
        )
    supervisor = host.supervisor
    hosts = residency.all_of(card)
    return ModelStatus(
        card,
        state=supervisor.state,
        reason=supervisor.reason,
        facts=supervisor.facts,
        load_fraction=supervisor.load_fraction,
        running=sum(host.running for host in hosts),
        waiting=sum(host.waiting for host in hosts),
        queue_capacity=host.places.capacity,
        adapters=host.params.adapters,
        deaths=supervisor.deaths,
        pid=supervisor.pid,
        by_api=by_api(hosts),
        keep_alive=residency.keep_alive(card),
        expires=residency.expires(card),
    )


def by_api(hosts: Iterable[EngineHost]) -> dict[str, tuple[int, int]]:
    """(running, waiting) of each dialect; questions about tokens are none's."""
    counts: dict[str, tuple[int, int]] = {}
    for stream in (stream for host in hosts for stream in host.streams):
        if stream.api:
            running, waiting = counts.get(stream.api, (0, 0))
            more = stream.scheduled
            counts[stream.api] = running + more, waiting + (not more)
    return counts
