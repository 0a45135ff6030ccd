"""`python -m bench`: builds what is missing, measures, and prints one table. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import uvloop

from bench import of_ours, reference
from bench.client import RequestFailed, Target
from bench.contest import Contest, Outcome, begun, hold, say
from bench.over_http import OVER_HTTP, BatchedBench, Entrants
from bench.paths import RESULTS
from bench.servers import LLAMA_SERVER, Setup, llama_server, model_names, ours
from bench.shapes import SHAPES, model
from bench.table import as_json, markdown

OF_OURS = (*of_ours.WITH_MODEL, *of_ours.WITHOUT)
# Poisson arrivals have no bar, so they are measured only where someone asks for them.
USUAL = (*(name for name in OVER_HTTP if name != "poisson"), *OF_OURS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("workloads", nargs="*", metavar="workload", help=f"of {', '.join((*OVER_HTTP, *OF_OURS))}")
    add(
        "--model",
        action="append",
        choices=SHAPES,
        help="0.5B, 1.1B or 15M; may be repeated (0.5B and 1.1B)",
    )
    add("--rounds", type=int, default=3, help="how often each contestant has its turn (3)")
    add("--minutes", type=float, default=60, help="no workload begins later than this (60)")
    add("--threads", type=int, default=2, help="of every server (2)")
    add("--slots", type=int, default=8, help="of every server (8)")
    add("--context", type=int, default=16384, help="tokens of all slots together (16384)")
    add("--target", action="append", default=[], metavar="NAME=URL[#MODEL]",
        help="measure these servers and start none; may be repeated")  # fmt: skip
    add("--baseline", help="the target that the others are held against (the first)")
    add("--seed", type=int, help="of the prompts (0; with --target the time, since servers cache)")
    add("--rate", type=float, default=0.5, help="of poisson: arrivals a second (0.5)")
    add("--all", action="store_true", help="print every figure, not only those with a bar")
    add("--prepare", action="store_true", help="build the programs and models, measure nothing")
    chosen = parser.parse_args()
    for name in chosen.workloads:
        if name not in OVER_HTTP and name not in OF_OURS:
            parser.error(f"there is no workload {name!r}")
    return chosen


class Session:
    """One run: holds contests until its time is up, and keeps what is known if one fails."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.wanted: Sequence[str] = chosen.workloads or USUAL
        self.setup = Setup(chosen.threads, chosen.slots, chosen.context)
        self.outcomes: dict[str, Outcome] = {}
        self.failed = False
        self._end = monotonic() + 60 * chosen.minutes

    async def hold(self, contests: Iterable[Contest], rounds: int | None = None) -> None:
        for contest in contests:
            if monotonic() > self._end:
                say(f"{contest.title}: left out, the time is up")
                continue
            try:
                outcome = self.outcomes.setdefault(contest.title, begun(contest))
                await hold(contest, outcome, rounds or self.chosen.rounds)
            except (OSError, EOFError, RequestFailed, TimeoutError, ExceptionGroup) as error:
                self.failed = True
                say(f"{contest.title}: failed: {reasons(error)}")

    async def visit(self) -> None:
        """The servers that were named, none of which is ours to start or end."""
        targets = tuple([await named(given) for given in self.chosen.target])
        baseline = self.chosen.baseline or (targets[0].name if len(targets) > 1 else None)
        seed = time.time_ns() if self.chosen.seed is None else self.chosen.seed
        entrants = Entrants("as served", targets, baseline, seed, rate=self.chosen.rate)
        await self.hold(over_http(self.wanted, entrants))

    async def everything(self) -> None:
        models = self.chosen.model or ("0.5B", "1.1B")
        if all(workload in of_ours.WITHOUT for workload in self.wanted):
            models = ()
        for name in models:
            path = model(name)
            if any(workload in OVER_HTTP for workload in self.wanted):
                for _ in range(self.chosen.rounds):
                    await self.against_llama_server(name, path)
            for workload, contests in of_ours.WITH_MODEL.items():
                if workload in self.wanted:
                    async with contests(self.setup, name, path) as some:
                        await self.hold(some)
        for workload, contests_of in of_ours.WITHOUT.items():
            if workload in self.wanted:
                async with contests_of(self.setup) as some:
                    await self.hold(some)

    async def against_llama_server(self, name: str, path: Path) -> None:
        """One round, of servers of its own: two starts of one program differ by some percent."""
        programs = reference.programs()
        async with (
            llama_server(self.setup, programs, path) as theirs,
            ours(self.setup, path.parent) as service,
        ):
            entrants = Entrants(
                name,
                (theirs.target, service.target),
                LLAMA_SERVER,
                self.chosen.seed or 0,
                BatchedBench(programs.batched_bench, path, self.setup),
                self.chosen.rate,
            )
            await self.hold(over_http(self.wanted, entrants), rounds=1)


def over_http(wanted: Sequence[str], entrants: Entrants) -> Iterator[Contest]:
    for name, contests in OVER_HTTP.items():
        if name in wanted:
            yield from contests(entrants)


async def named(given: str) -> Target:
    """NAME=URL, with the first model that the server lists, or NAME=URL#MODEL."""
    name, _, address = given.partition("=")
    url, _, model = address.partition("#")
    return Target(name, url, model or (await model_names(url))[0])


def reasons(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(sorted({reasons(one) for one in error.exceptions}))
    return f"{type(error).__name__} {error}".strip()


def machine() -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "llama-cpp-python": reference.version_of(reference.pinned()),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(session: Session) -> None:
    found = machine() | {"arguments": vars(session.chosen)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    outcomes = [*session.outcomes.values()]
    path.write_text(as_json(outcomes, found))
    print(f"{found['processor']}, {found['cores']} cores; {session.chosen.rounds} rounds\n")
    print(markdown(outcomes, session.chosen.all))
    say(f"every figure of every round: {path}")


def main() -> int:
    chosen = arguments()
    if chosen.prepare:
        reference.programs()
        for name in chosen.model or SHAPES:
            model(name)
        return 0
    session = Session(chosen)
    # Asked to end is as good as Ctrl-C: what is known is printed, and no server is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvloop.run(session.visit() if chosen.target else session.everything())
    except KeyboardInterrupt:
        return 130
    finally:
        if session.outcomes:
            report(session)
    return int(session.failed)


if __name__ == "__main__":
    sys.exit(main())
