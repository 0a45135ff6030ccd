"""Advice, from the analysis to its verdict and back, on a machine that does nothing else:
`python -m bench.optimization [--model 0.5B] [--threads 16] [--requests 60]`.

The service is started with too many threads, asked one thing after the other, told to do what it is
advised, asked again, told to go back, and asked again; then the same advice is tried on the idle
service. `improved` and then `regressed` are expected, and `improved` of the trial: exit status 1
where one is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from time import monotonic
from typing import Any

import httpx

from bench.servers import Setup, ours
from bench.shapes import SHAPES, model

METRIC = "llm_time_per_output_token_seconds"
ID = "threads-physical"
POLL_SECONDS = 0.5
TRIAL_SECONDS = 600.0


async def ask(http: httpx.AsyncClient, name: str, count: int, begun: int) -> float:
    """Requests a second; raises httpx.HTTPStatusError for the first that fails."""
    start = monotonic()
    for number in range(begun, begun + count):
        body = {
            "model": name,
            "prompt": f"{number}: the harbor and the lantern",
            "max_tokens": 24,
            "ignore_eos": True,
        }
        (await http.post("/v1/completions", json=body)).raise_for_status()
    return count / (monotonic() - start)


async def measured(threads: int, shape: str | None, requests: int) -> list[tuple[str, str, Any]]:
    """(what, verdict, effect) of the advice, of going back, and of a trial."""
    setup = Setup(threads=threads, slots=4, context=4096)
    folder = model(shape).parent if shape is not None else None
    with tempfile.TemporaryDirectory() as state:
        async with ours(setup, folder, {"LLM_STATE_DIR": state}) as server:
            url = server.target.url.removesuffix("/v1")
            async with httpx.AsyncClient(base_url=url, timeout=TRIAL_SECONDS) as http:
                return [found async for found in steps(http, server.target.model, requests)]


async def steps(http: httpx.AsyncClient, name: str, requests: int) -> Any:
    say(f"{await ask(http, name, requests, 0):.2f} requests/s as started")
    await advised(http)
    applied = await post(http, "apply", {"id": ID})
    say(f"{await ask(http, name, requests, requests):.2f} requests/s as advised")
    yield "apply", *await verdict(http, applied["change_id"])
    back = await post(http, f"rollback/{applied['change_id']}", {})
    say(f"{await ask(http, name, requests, 2 * requests):.2f} requests/s as before")
    yield "rollback", *await verdict(http, back["change_id"])
    await advised(http)
    await post(http, "trial", {"id": ID, "seconds": TRIAL_SECONDS})
    last = await tried(http)
    say(f"trial: {last['outcome']} in {last['seconds']:.0f} s, second A/first A {last['drift']}")
    yield "trial", last["verdict"], last["effects"].get(METRIC)


async def tried(http: httpx.AsyncClient) -> dict[str, Any]:
    """What came of the trial, when it is over."""
    while True:
        state: dict[str, Any] = (await http.get("/api/optimization/trial")).json()
        if state["running"] is None:
            last: dict[str, Any] = state["last"]
            return last
        await asyncio.sleep(POLL_SECONDS)


async def post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await http.post(f"/api/optimization/{path}", json=body)
    if response.is_error:
        raise SystemExit(f"{path}: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


async def advised(http: httpx.AsyncClient) -> None:
    """Comes back when the analysis names the advice."""
    while True:
        body = (await http.get("/api/metrics/optimization?refresh=1")).json()
        if any(advice["id"] == ID for advice in body["recommendations"]):
            return
        await asyncio.sleep(POLL_SECONDS)


async def verdict(http: httpx.AsyncClient, change: str) -> tuple[str, Any]:
    """The newest one of a change, and the effect on METRIC."""
    query = {"kind": "verdict", "change": change, "limit": "1"}
    while True:
        records = (await http.get("/api/optimization/history", params=query)).json()["records"]
        if records and METRIC in records[0].get("effects", {}):
            return records[0]["verdict"], records[0]["effects"][METRIC]
        await asyncio.sleep(POLL_SECONDS)


def say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.optimization", description=__doc__)
    parser.add_argument("--model", choices=SHAPES, help="instead of the demo model")
    parser.add_argument("--threads", type=int, default=16, help="that it is started with (16)")
    parser.add_argument("--requests", type=int, default=60, help="under each configuration (60)")
    chosen = parser.parse_args(words)
    say(f"load average {os.getloadavg()[0]:.2f}")
    found = asyncio.run(measured(chosen.threads, chosen.model, chosen.requests))
    for what, word, effect in found:
        shown = "no interval"
        if effect is not None:
            shown = f"{effect['ratio']:.3f} ({effect['low']:.3f} to {effect['high']:.3f})"
        print(f"{what:9} {word:18} {METRIC} after/before {shown}")
    return int([word for _, word, _ in found] != ["improved", "regressed", "improved"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
