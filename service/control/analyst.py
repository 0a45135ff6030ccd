"""Analyses in the background, so that nobody who asks has to wait. Lives on the event loop; what
takes longer than a tick (headers, placements, rules) is done on a thread."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exporters.readings import Latest, StoreReading
from service.control.advice import Recommendation
from service.control.analysis import Analysis, Component, Group, GroupName
from service.control.estimate import Estimate, Estimates, Estimating, Estimator
from service.control.evidence import Evidence
from service.control.gathering import Sources, Status, gathered
from service.control.hardware import hardware
from service.control.intervals import INTERVAL_SECONDS, TICK_SECONDS, Intervals
from service.control.recommending import LearnedEffect, recommend
from service.control.scoring import score
from service.control.simulation import simulated, with_patch
from service.control.workload import Workload
from service.settings import Settings

logger = logging.getLogger(__name__)

HOUR: Final = 3600.0
# Before that the collectors may not have read anything, and the first model is still being loaded.
FIRST_SECONDS: Final = 2.0
ASKING_SECONDS: Final = 1.0
# Engines tell a moment later what they compute with now.
SETTLED_SECONDS: Final = 1.0
# Settings that change what was measured. What is known of the time before them says nothing then.
DECIDING: Final = frozenset(
    "default_context_size parallel_slots gpu_layers tensor_split main_gpu split_mode cache_type_k "
    "cache_type_v flash_attention mmap mlock models threads batch_size prefill_chunk prefix_cache "
    "kv_cache keep_alive max_loaded_models pinned_models queue_size queue_timeout".split()
)


@dataclass(frozen=True)
class Hypothesis:
    """The same of settings that are not in force. estimate: where the model in use would go; None:
    not known. score: None where it could not be loaded."""

    score: float | None
    coverage: float
    groups: Mapping[GroupName, Group]
    components: tuple[Component, ...]
    recommendations: tuple[Recommendation, ...]
    estimate: Estimate | None


@dataclass
class Analyst:
    """`models`, `settings`, `stores` and `expected_gpus` are asked on the event loop, `estimate` on
    a thread. `dismissed`: advice that is not wanted; `learned`: what a rule did here."""

    workload: Workload
    intervals: Intervals
    monitors: Latest
    models: Callable[[], Sequence[Status]]
    settings: Callable[[], Settings]
    wall_clock: Callable[[], float]
    estimate: Estimating = lambda settings, hardware, models: Estimates()
    stores: Callable[[], Sequence[StoreReading]] = tuple
    expected_gpus: Callable[[], int | None] = lambda: None
    gpu_engine: bool | None = None
    learned: LearnedEffect = lambda rule: None
    dismissed: Callable[[], Collection[str]] = tuple
    latest: Analysis | None = field(default=None, init=False)
    evidence: Evidence | None = field(default=None, init=False)
    _estimator: Estimator | None = field(default=None, init=False)
    _asked: float = field(default=-math.inf, init=False)
    _running: asyncio.Task[Analysis] | None = field(default=None, init=False)
    _listeners: list[Callable[[Analysis], None]] = field(default_factory=list, init=False)

    async def run(self) -> None:
        """For as long as the service runs."""
        await asyncio.sleep(FIRST_SECONDS)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                self.intervals.tick()
                if loop.time() >= due:
                    due = loop.time() + INTERVAL_SECONDS
                    await self.refresh()
            except Exception:
                logger.exception("the analysis failed")
            await asyncio.sleep(TICK_SECONDS)

    def listen(self, listener: Callable[[Analysis], None]) -> None:
        """It is called after each analysis."""
        self._listeners.append(listener)

    def start(self) -> asyncio.Task[Analysis]:
        """Those who ask while one is being made get that one."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._analyse())
        return self._running

    def ask(self) -> None:
        """As `start`, at most once a second: whoever reads may ask as often as he likes."""
        now = asyncio.get_running_loop().time()
        if now - self._asked >= ASKING_SECONDS:
            self._asked = now
            self.start()

    async def refresh(self) -> Analysis:
        return await asyncio.shield(self.start())

    def on_change(self, keys: Collection[str]) -> None:
        """Of settings in force."""
        if not DECIDING.isdisjoint(keys):
            self.intervals.forget()
        asyncio.get_running_loop().call_later(SETTLED_SECONDS, self.start)

    async def what_if(self, patch: Mapping[str, Any]) -> Hypothesis | None:
        """None before the first analysis. Raises pydantic's ValidationError."""
        if self.evidence is None:
            return None
        evidence, dismissed = self.evidence, self.dismissed()
        return await asyncio.to_thread(
            hypothesis, evidence, patch, self._estimator, self.learned, dismissed
        )

    async def _analyse(self) -> Analysis:
        busy, recent = self.intervals.so_far()
        sources = Sources(
            settings=self.settings(),
            busy=busy,
            recent=recent,
            latest=self.monitors,
            before=self.evidence.gpus if self.evidence is not None else (),
            models=self.models(),
            lengths=self.workload.lengths(),
            occurrences=tuple(self.workload.occurred(HOUR)),
            stores=self.stores(),
            expected_gpus=self.expected_gpus(),
            gpu_engine=self.gpu_engine,
        )
        dismissed, at = self.dismissed(), self.wall_clock()
        made = await asyncio.to_thread(self._made, sources, dismissed, at)
        self.evidence, self._estimator, self.latest = made
        for listener in self._listeners:
            listener(self.latest)
        return self.latest

    def _made(
        self, sources: Sources, dismissed: Collection[str], at: float
    ) -> tuple[Evidence, Estimator | None, Analysis]:
        machine = hardware(self.monitors, os.environ)
        sources = replace(sources, hardware=machine)
        first = gathered(sources)
        main = first.main
        # The one with most to do before the others.
        models = sorted(sources.models, key=lambda s: main is None or s.card.name != main.name)
        estimates = self.estimate(sources.settings, machine, models)
        evidence = gathered(
            replace(sources, automatic=estimates.automatic, candidates=estimates.candidates)
        )
        found = score(evidence)
        advice = recommend(
            evidence,
            found,
            estimator=estimates.estimator,
            learned=self.learned,
            dismissed=dismissed,
        )
        analysis = Analysis(
            made_at=at,
            measured_at=evidence.measured_at,
            window_seconds=evidence.window_seconds,
            score=found.value,
            coverage=found.coverage,
            groups=found.groups,
            components=found.components,
            recommendations=advice,
            predicted=estimates.predicted,
        )
        return evidence, estimates.estimator, analysis


def hypothesis(
    evidence: Evidence,
    patch: Mapping[str, Any],
    estimator: Estimator | None,
    learned: LearnedEffect,
    dismissed: Collection[str],
) -> Hypothesis:
    estimate = estimator(with_patch(evidence.settings, patch)) if estimator is not None else None
    imagined = simulated(evidence, patch, estimator)
    found = score(imagined)
    if estimate is not None and estimate.refused is not None:
        # What cannot be loaded has no score.
        return Hypothesis(None, found.coverage, found.groups, found.components, (), estimate)
    advice = recommend(imagined, found, estimator=estimator, learned=learned, dismissed=dismissed)
    return Hypothesis(found.value, found.coverage, found.groups, found.components, advice, estimate)
