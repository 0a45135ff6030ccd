"""What users of every dialect ask for while the pictures' measurements are taken."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

Body = dict[str, Any]

USERS: Final = 6
# A pause between two requests of a user is up to so long.
PAUSE_SECONDS: Final = 2.5
GREETING: Final = "You answer in one short sentence, and you say so when you do not know."
MODEL: Final = "demo"


@dataclass(frozen=True)
class Request:
    """`weight`: how often, beside the others. `hang_up`: the client goes before the answer's end."""

    weight: int
    path: str
    body: Body
    hang_up: bool = False


def requests(question: str, tokens: int) -> Sequence[Request]:
    messages = [{"role": "system", "content": GREETING}, {"role": "user", "content": question}]
    chat = {"model": MODEL, "messages": messages, "max_tokens": tokens}
    long = {**chat, "max_tokens": 3 * tokens, "ignore_eos": True}
    inputs = {"inputs": question, "parameters": {"max_new_tokens": tokens}}
    prompt = {"model": MODEL, "prompt": question}
    return (
        Request(20, "/v1/chat/completions", {**long, "stream": True}),
        Request(10, "/v1/chat/completions", chat),
        Request(5, "/v1/completions", {**prompt, "max_tokens": tokens}),
        Request(6, "/v1/embeddings", {"model": MODEL, "input": question}),
        Request(14, "/api/chat", {"model": MODEL, "messages": messages, "options": {"num_predict": tokens}}),
        Request(8, "/api/generate", {**prompt, "options": {"num_predict": 2 * tokens}}),
        Request(14, "/vllm/v1/chat/completions", {**long, "stream": True}),
        Request(6, "/generate", inputs),
        Request(8, "/generate_stream", inputs),
        Request(10, "/v1/messages", {**chat, "messages": messages[1:], "system": GREETING}),
        Request(2, "/v1/chat/completions", {**long, "stream": True}, hang_up=True),
        # What is refused.
        Request(1, "/v1/chat/completions", {**chat, "model": "none-such"}),
        Request(1, "/v1/chat/completions", {**chat, "temperature": 99}),
    )  # fmt: skip


def question(chance: random.Random) -> str:
    first, second = chance.randrange(100), chance.randrange(100)
    asked = f"What is {first} plus {second}?"
    return " ".join([asked, *["And what is half of that?"] * chance.randrange(12)])


@contextmanager
def users(url: str, seed: int) -> Iterator[None]:
    """So many at once, until the end of the block."""
    done = threading.Event()
    with ThreadPoolExecutor(USERS) as pool:
        asking = [pool.submit(user, url, random.Random(seed + n), done) for n in range(USERS)]
        try:
            yield
        finally:
            done.set()
        for each in asking:
            each.result()


def user(url: str, chance: random.Random, done: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=120) as http:
        while not done.wait(chance.uniform(0, PAUSE_SECONDS)):
            may = requests(question(chance), chance.choice((16, 32, 48)))
            (request,) = chance.choices(may, [each.weight for each in may])
            ask(http, request)


def ask(http: httpx.Client, request: Request) -> None:
    with http.stream("POST", request.path, json=request.body) as answer:
        for _ in answer.iter_bytes():
            if request.hang_up:
                return
