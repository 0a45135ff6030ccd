"""Advice on processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service.control.evidence import Evidence
from service.control.rule import (
    FASTER,
    WHOLE,
    Finding,
    Rule,
    above,
    below,
    own_key,
    percent,
    with_own,
)

# A service on fewer cores has none to spare for its event loop.
SPARE_FROM: Final = 4


def threads_patch(
    evidence: Evidence, threads: int, wrong: Callable[[int], bool]
) -> dict[str, object]:
    """So many threads, for all models and for those that have a wrong number of their own."""
    settings = evidence.settings
    own = {
        name: {"threads": threads}
        for name, model in settings.models.items()
        if model.threads is not None and wrong(model.threads)
    }
    patch: dict[str, object] = {}
    if not own or (settings.threads is not None and wrong(settings.threads)):
        patch["threads"] = threads
    if own:
        patch["models"] = with_own(settings, own)
    return patch


def too_many_threads(evidence: Evidence) -> Finding | None:
    threads, cores = evidence.threads, evidence.cores
    if threads is None or cores is None or threads <= cores:
        return None
    return Finding(
        f"Models are computed with {threads} threads on {cores} usable physical cores. Threads that "
        "share a core wait for each other at the end of every layer.",
        f"Set threads to {cores}.",
        {"threads": threads, "usable_cores": cores, "cpu_layer_share": evidence.cpu_layer_share},
        threads_patch(evidence, cores, lambda own: own > cores),
    )


def too_few_threads(evidence: Evidence) -> Finding | None:
    threads, cores, main = evidence.threads, evidence.cores, evidence.main
    chosen = evidence.settings.threads is not None or (
        main is not None and own_key(evidence.settings, (main.name, *main.aliases)) is not None
    )
    if threads is None or cores is None or threads >= cores or not chosen:
        return None
    if threads >= cores - 1 >= SPARE_FROM - 1:
        return None
    if not evidence.requests or not above(evidence.cpu_layer_share, 0.1):
        return None
    if not below(evidence.stalled, 0.05):
        return None
    return Finding(
        f"{threads} threads compute on {cores} usable physical cores, and tasks waited for a "
        f"processor in {percent(evidence.stalled or 0.0)} of the time: cores stand idle.",
        f"Set threads to {cores}.",
        {"threads": threads, "usable_cores": cores, "stalled": evidence.stalled},
        threads_patch(evidence, cores, lambda own: own < cores),
    )


def contended(evidence: Evidence) -> Finding | None:
    threads, cores, stalled = evidence.threads, evidence.cores, evidence.stalled
    if stalled is None or stalled <= 0.2:
        return None
    if threads is not None and cores is not None and threads > cores:
        # There is a reason of our own, and advice for that.
        return None
    if below(evidence.load_per_core, 1.5):
        # Hardly more than the threads that compute: what they wait for is each other.
        return None
    return Finding(
        f"In {percent(stalled)} of the time some task waited for a processor, though models have "
        f"{'no more threads than' if threads else 'none of the'} {cores} usable cores.",
        "See what else runs on this machine, and give it less, or this service more.",
        {"stalled": stalled, "load_per_core": evidence.load_per_core, "threads": threads,
         "usable_cores": cores},
    )  # fmt: skip


def late_loop(evidence: Evidence) -> Finding | None:
    lag, cores, threads = evidence.loop_lag, evidence.cores, evidence.threads
    if lag is None or lag <= 0.1 or cores is None or cores < SPARE_FROM:
        return None
    if threads is None or threads < cores or not above(evidence.cpu_layer_share, 0.1):
        return None
    return Finding(
        f"One of a hundred wakes of the event loop is {1000 * lag:.0f} ms late, and every token of "
        f"every stream passes it, while {threads} threads compute on all {cores} cores.",
        f"Leave it a core: set threads to {cores - 1}.",
        {"loop_lag_p99_seconds": lag, "threads": threads, "usable_cores": cores},
        threads_patch(evidence, cores - 1, lambda own: own >= cores),
    )


RULES: Final = (
    Rule(
        "threads-physical",
        "performance",
        "cpu.threads",
        "More threads than cores",
        "Shorter time for each token of what the CPU computes.",
        "Prompts may take a little longer where two threads of a core did help.",
        "llm_config_threads",
        too_many_threads,
        verify=FASTER,
    ),
    Rule(
        "threads-more",
        "performance",
        None,
        "Fewer threads than cores",
        "Shorter time for each token, and of prompts above all.",
        "What else runs on the machine has less.",
        "llm_config_threads",
        too_few_threads,
        verify=FASTER,
        opportunity=True,
    ),
    Rule(
        "cpu-contention",
        "performance",
        "cpu.pressure",
        "Tasks wait for processors",
        "Shorter and steadier times of everything the CPU does.",
        "That of whatever is moved elsewhere.",
        'rate(llm_host_pressure_seconds_total{resource="cpu",kind="some"}[15m])',
        contended,
        needs="hardware",
    ),
    Rule(
        "loop-core",
        "performance",
        "cpu.loop_lag",
        "The event loop is late",
        "Steadier gaps between tokens.",
        "One core fewer computes.",
        "histogram_quantile(0.99, sum by (le) (rate(llm_event_loop_lag_seconds_bucket[15m])))",
        late_loop,
        verify=WHOLE,
    ),
)
