"""`python -m bench.greedy`: is greedy text the same as llama-server's, alone and in a batch of eight?

On the bundled demo model, whose answers mean something. Where two texts differ, the log-probabilities
of the two tokens at the first difference are printed: llama.cpp computes one row with other kernels
than several, which sum in another order, so tokens that are nearly equally likely may change places.
A difference between tokens that are not is a fault.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any
from urllib.request import Request, urlopen

from bench import reference
from bench.paths import ROOT
from bench.servers import Setup, llama_server, ours

DEMO = ROOT / "service" / "catalog" / "demo.gguf"
SETUP = Setup(threads=2, slots=8, context=16384)
TOKENS = 64
# Nats between two tokens that rounding may still exchange.
NEARLY = 0.1


def prompts() -> list[str]:
    """Fifty, of all that the model was trained for, and of some that it was not."""
    questions = [f"What is {a} + {97 - 2 * a}?" for a in range(5, 45, 4)]
    questions += [f"Compute {90 - a} - {a}." for a in range(3, 43, 4)]
    questions += [f"Count from {a} to {a + 12}." for a in range(1, 11)]
    questions += [
        f"Repeat after me: {word} lamp river {word}" for word in "blue seven 日本 oak".split()
    ]
    questions += [
        "Hello!",
        "Who are you?",
        "Which port do you use?",
        "Thanks",
        "What is love?",
        "🦙",
    ]
    chats = [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in questions]
    return [*chats, *(f"{n} {n + 1} {n + 2}" for n in range(10, 20))]


def complete(url: str, prompt: str) -> dict[str, Any]:
    body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "logprobs": 5}
    request = Request(
        f"{url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=120) as response:
        choice: dict[str, Any] = json.load(response)["choices"][0]
    return choice


async def answers(url: str, texts: Sequence[str], at_once: int) -> list[dict[str, Any]]:
    window = asyncio.Semaphore(at_once)

    async def one(text: str) -> dict[str, Any]:
        async with window:
            return await asyncio.to_thread(complete, url, text)

    return list(await asyncio.gather(*(one(text) for text in texts)))


def difference(a: dict[str, Any], b: dict[str, Any]) -> float | None:
    """Nats between the two tokens where the texts part, by `a`'s account; None if they agree."""
    if a["text"] == b["text"]:
        return None
    logprobs = a["logprobs"]
    shared = next(
        (i for i, (x, y) in enumerate(zip(a["text"], b["text"], strict=False)) if x != y),
        min(len(a["text"]), len(b["text"])),
    )
    at = 0
    for i, token in enumerate(logprobs["tokens"]):
        at += len(token)
        if at > shared:
            ranked = sorted(logprobs["top_logprobs"][i].values(), reverse=True)
            return float(ranked[0] - ranked[1])
    return float("inf")


def compare(title: str, left: list[dict[str, Any]], right: list[dict[str, Any]]) -> int:
    """Prints how many agree, and every difference. Returns the faults."""
    gaps = [difference(a, b) for a, b in zip(left, right, strict=True)]
    parted = [(i, gap) for i, gap in enumerate(gaps) if gap is not None]
    print(f"{title}: {len(gaps) - len(parted)} of {len(gaps)} equal")
    for i, gap in parted:
        print(f"  prompt {i}: the two likeliest tokens there are {gap:.3f} nats apart")
        print(f"    {left[i]['text']!r}\n    {right[i]['text']!r}")
    return sum(gap > NEARLY for _, gap in parted)


async def main() -> int:
    texts = prompts()
    async with (
        llama_server(SETUP, reference.programs(), DEMO) as theirs,
        ours(SETUP, None) as service,
    ):
        reference_texts = await answers(theirs.target.url, texts, 1)
        alone = await answers(service.target.url, texts, 1)
        batch = await answers(service.target.url, texts, 8)
    faults = compare("ours alone and llama-server's", alone, reference_texts)
    faults += compare("ours alone and ours in a batch of 8", alone, batch)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
