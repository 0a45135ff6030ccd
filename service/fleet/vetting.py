"""What is found out about a model's files before an engine may load them.

(1) Blobs are what the SHA-256 in their names says. (2) A file that this llama.cpp has not loaded
before is first opened by a process that holds nothing else, with bounds on its memory and time:
what a hostile header can do, it does there. Each costs one reading of the file, and is done once:
the catalogue remembers the answers for as long as the file stays as it is. (3) Adapters are ones,
and the model's own, by their headers: llama.cpp aborts over some that are not.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from service.catalog.adapters import misfit
from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.catalog.index import Opened
from service.engine import wire
from service.facts import Adapter
from service.fleet.child import ENGINE, Child
from service.stats import LoadFailure

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 120.0
# A slow disk is not the file's fault: one more second for so much of it.
BYTES_A_SECOND: Final = 50 * 10**6
# A process that has closed its socket gets this long to be dead of what it dies of.
AUTOPSY_SECONDS: Final = 1.0
# These say nothing of the file.
PASSING: Final = frozenset({"out_of_memory", "not_found", "timeout"})
# Nor does a death, but of what the file made llama.cpp do: not of SIGKILL, which is the OOM killer's
# or an operator's, nor of SIGILL, by which a library ends that was built for another processor.
_OF_THE_FILE: Final = frozenset(
    -each for each in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)
)
_OF_THE_MACHINE: Final = frozenset({"GPU error", "Python exception"})


@dataclass(frozen=True, slots=True)
class Unloadable:
    """`message` is for the operator's eyes. `passing`: it says nothing of the file."""

    kind: LoadFailure
    message: str
    passing: bool = False


Vet = Callable[[ModelCard], Awaitable[Unloadable | None]]


class Vetting:
    def __init__(
        self, catalog: Catalog, *, checksums: bool, command: tuple[str, ...] = ENGINE
    ) -> None:
        self._catalog = catalog
        self._checksums = checksums
        self._command = command
        self._by = f"llama-cpp-python {version('llama-cpp-python')}"

    async def __call__(self, card: ModelCard) -> Unloadable | None:
        """What speaks against loading it, or None. The bundled model is known."""
        if card.source == "demo":
            return None
        if self._checksums and (damage := await self._damage(card)) is not None:  # (1)
            return damage
        known = self._catalog.opened(card, self._by)  # (2)
        if known is None:
            found = await probe(card, self._command)
            if found is not None and (found.passing or found.kind in PASSING):
                return found
            known = Opened(self._by, found.kind, found.message) if found else Opened(self._by)
            self._catalog.remember(card, known)
        return Unloadable(cast(LoadFailure, known.kind), known.message) if known.kind else None

    async def _damage(self, card: ModelCard) -> Unloadable | None:
        leaving = threading.Event()
        try:
            problem = await asyncio.to_thread(self._catalog.verify, card, leaving.is_set)
        finally:
            leaving.set()
        return Unloadable("bad_file", problem.text) if problem else None


async def unfit(card: ModelCard, adapters: Sequence[Adapter]) -> Unloadable | None:
    """(3) What keeps the model from being loaded with these, or None."""
    files = card.weights
    for number, adapter in enumerate(adapters):
        if why := await asyncio.to_thread(misfit, Path(adapter.path), files):
            return Unloadable("bad_file", f"its adapter {adapter.name or number}: {why}")
    return None


async def probe(card: ModelCard, command: tuple[str, ...] = ENGINE) -> Unloadable | None:
    """Opens the model in a process of its own, and ends it; what kept it from opening, or None."""
    answer: asyncio.Future[wire.Probed | wire.LoadFailed]
    answer = asyncio.get_running_loop().create_future()

    def hear(report: wire.Report) -> None:
        if isinstance(report, wire.Probed | wire.LoadFailed) and not answer.done():
            answer.set_result(report)

    child = Child(card.name, hear)
    seconds = PROBE_SECONDS + card.size_bytes / BYTES_A_SECOND
    try:
        await child.start(command)
        child.send(wire.encode(wire.Probe(card.path)))
        either: set[asyncio.Future[Any]] = {answer, child.lost}
        done, _ = await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except OSError as error:
        # An engine will not start either, and will say so.
        logger.error("no process to open %s with: %s", card.name, error)
        return None
    finally:
        ended = await child.end(AUTOPSY_SECONDS if child.lost.done() else 0.0)
    if not done:
        return Unloadable("timeout", f"opening it took more than {seconds:.0f} s")
    if not answer.done():
        logger.warning("a process that only opened %s died: %s", card.name, ended)
        return _post_mortem(child, ended)
    report = answer.result()
    return Unloadable(report.kind, report.message) if isinstance(report, wire.LoadFailed) else None


def _post_mortem(child: Child, ended: str) -> Unloadable:
    kind = child.last_words.kind()
    words = f"{ended}, {kind}" if kind else ended
    if kind == "out of memory":
        return Unloadable("out_of_memory", words)
    lasting = child.exit_code in _OF_THE_FILE and kind not in _OF_THE_MACHINE
    return Unloadable("crash", words, passing=not lasting)
