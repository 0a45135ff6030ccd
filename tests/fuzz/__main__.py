"""`python -m tests.fuzz`: generated requests against the real service with the demo model.

Prints what became of them, and for each violation the request that shows it; exits with 1 if
there is one. The same seed draws the same requests, so `--dialect D --seed S --only N` sends one
of them again.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.endpoints import DIALECTS
from tests.fuzz.run import FLAGS, Tally, Violation, aftermath, empty_folder, fuzz
from tests.service_process import service

# Bytes of a request that are shown.
SHOWN = 2000
CLASSES = ("2xx", "3xx", "4xx", "5xx", "left", "broken", "hung", "refused")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--dialect", choices=["all", *DIALECTS], default="all")
    parser.add_argument("--requests", type=int, default=5000, help="of each dialect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="send this one alone")
    given = parser.parse_args()
    names = list(DIALECTS) if given.dialect == "all" else [given.dialect]
    numbers = range(given.requests) if given.only is None else [given.only]
    violations: list[Violation] = []
    say(f"{'dialect':<14}{'requests':>9}" + "".join(f"{name:>9}" for name in CLASSES))
    with tempfile.TemporaryDirectory() as scratch:
        folder = empty_folder(Path(scratch))
        for name in names:
            with service(folder, *FLAGS) as running:
                started = time.monotonic()
                tally = asyncio.run(fuzz(running.url, name, given.seed, numbers))
                seconds = time.monotonic() - started
                tally.violations += aftermath(running, name)
            say(row(name, tally, seconds))
            for kind in kinds_of(tally.violations):
                say(described(kind[0], given.seed) + f"\n  {len(kind)} of its kind")
            violations += tally.violations
    say(f"{len(violations)} violations")
    return 1 if violations else 0


def kinds_of(violations: list[Violation]) -> list[list[Violation]]:
    """Those that begin with the same words are one mistake, most likely."""
    kinds: dict[str, list[Violation]] = {}
    for violation in violations:
        kinds.setdefault(re.sub(r"[0-9a-f-]*\d[0-9a-f-]*", "#", violation.what)[:100], []).append(
            violation
        )
    return list(kinds.values())


def row(name: str, tally: Tally, seconds: float) -> str:
    counts = "".join(f"{tally.classes[kind]:>9}" for kind in CLASSES)
    total = sum(tally.classes.values())
    slowest, number = tally.slowest
    return f"{name:<14}{total:>9}{counts}   {seconds:.0f} s, slowest 4xx {slowest:.2f} s: {number}"


def described(violation: Violation, seed: int) -> str:
    lines = [f"\n{violation.dialect}: {violation.what}"]
    if violation.request is not None:
        again = f"--dialect {violation.dialect} --seed {seed} --only {violation.number}"
        lines.append(f"  python -m tests.fuzz {again}")
        raw = violation.request.raw()
        lines.append(f"  {raw[:SHOWN]!r}" + (f"… {len(raw)} bytes" if len(raw) > SHOWN else ""))
        if violation.request.hang_up:
            lines.append(f"  the client leaves: {violation.request.hang_up}")
    return "\n".join(lines)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
