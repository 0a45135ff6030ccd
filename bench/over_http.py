"""The contests that any OpenAI-compatible server can enter, and what ours must reach in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.client import Target
from bench.contest import Bar, Contest, Measure
from bench.load import Figures, long_prompt, multi_turn, run
from bench.servers import Setup
from bench.workloads import Closed, Distinct, LongPrompt, MultiTurn, Poisson, SharedPrefix

BATCHED_BENCH = "llama-batched-bench"
BASELINE = "the baseline"  # in a bar: whichever server that is


@dataclass(frozen=True)
class BatchedBench:
    """llama.cpp without any server, sampling or text: the limit of decoding on this machine."""

    program: Path
    model: Path
    setup: Setup

    async def decode(self, sequences: int, round_number: int) -> Figures:
        workload = Distinct(Closed(sequences), sequences)
        process = await asyncio.create_subprocess_exec(
            *(str(self.program), "-m", str(self.model), "-t", str(self.setup.threads)),
            *("-c", str(self.setup.context), "-npl", str(sequences)),
            *("-npp", str(workload.prompt_words), "-ntg", str(workload.max_tokens)),
            *("--output-format", "jsonl"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return batched_bench_figures(output.decode())


def batched_bench_figures(output: str) -> Figures:
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {"decode tokens/s": found[-1]["speed_tg"], "prefill tokens/s": found[-1]["speed_pp"]}


@dataclass(frozen=True)
class Entrants:
    """The servers, which of them the others are held against, and what their prompts depend on."""

    model: str
    targets: tuple[Target, ...]
    baseline: str | None
    seed: int
    limit: BatchedBench | None = None
    rate: float = 0.5

    @property
    def judged(self) -> tuple[str, ...]:
        names = tuple(target.name for target in self.targets)
        return tuple(name for name in names if name != self.baseline) or names

    def contest(
        self,
        title: str,
        measure: Callable[[Target, object], Awaitable[Figures]],
        *bars: Bar,
        limit: Measure | None = None,
    ) -> Contest:
        async def asked(target: Target, round_number: int) -> Figures:
            return await measure(target, f"{self.seed} {title} {round_number}")

        contestants: dict[str, Measure] = {
            target.name: partial(asked, target) for target in self.targets
        }
        if limit:
            contestants[BATCHED_BENCH] = limit
        return Contest(
            f"{self.model}, {title}",
            contestants,
            self.judged,
            tuple(self.applicable(bars, contestants)),
            self.baseline,
        )

    def applicable(self, bars: Iterable[Bar], contestants: Container[str]) -> Iterator[Bar]:
        """A ratio needs its other side: a server alone has only figures of its own."""
        for bar in bars:
            against = self.baseline if bar.against == BASELINE else bar.against
            if bar.against is None or against in contestants:
                yield replace(bar, against=against)


def decode(entrants: Entrants) -> Iterator[Contest]:
    for clients in (1, 4, 8):
        workload = Distinct(Closed(clients), clients)
        yield entrants.contest(
            f"{clients} client{'s' if clients > 1 else ''}, distinct prompts",
            partial(run, workload=workload),
            Bar("decode tokens/s", at_least=0.97, against=BASELINE),
            Bar("decode tokens/s", at_least=0.93, against=BATCHED_BENCH),
            limit=partial(entrants.limit.decode, clients) if entrants.limit else None,
        )


def shared(entrants: Entrants) -> Iterator[Contest]:
    workload = SharedPrefix(Closed(8), requests=16)
    yield entrants.contest(
        f"8 clients, {workload.shared_words} shared + {workload.distinct_words} distinct",
        partial(run, workload=workload),
        Bar("tokens/s", at_least=1.5, against=BASELINE),
        Bar("TTFT p95 ms", at_most=0.3, against=BASELINE),
    )


def long_among_streams(entrants: Entrants) -> Iterator[Contest]:
    workload = LongPrompt()
    yield entrants.contest(
        f"{workload.prompt_words}-token prompt among {workload.streams} streams",
        partial(long_prompt, workload=workload),
        Bar("others' gap p95 ms", at_most=0.12, against=BASELINE),
        Bar("long prompt's TTFT ms", at_most=1.3, against=BASELINE),
    )


def turns(entrants: Entrants) -> Iterator[Contest]:
    workload = MultiTurn()
    yield entrants.contest(
        f"{workload.conversations} conversations x {workload.turns} turns",
        partial(multi_turn, workload=workload),
        Bar("cached share of repeatable", at_least=0.9),
        Bar("TTFT p50 ms", at_most=1.0, against=BASELINE),
        Bar("TTFT p95 ms", at_most=1.0, against=BASELINE),
    )


def poisson(entrants: Entrants) -> Iterator[Contest]:
    """No bar: how a server bears arrivals that do not wait for it, for whoever asks."""
    workload = Distinct(Poisson(entrants.rate), requests=24, max_tokens=64)
    yield entrants.contest(
        f"Poisson arrivals, {entrants.rate:g} a second",
        partial(run, workload=workload),
    )


OVER_HTTP: dict[str, Callable[[Entrants], Iterator[Contest]]] = {
    "decode": decode,
    "shared": shared,
    "long_prompt": long_among_streams,
    "multi_turn": turns,
    "poisson": poisson,
}
