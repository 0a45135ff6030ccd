"""JSON values that a field may get and should not, and small valid ones. Every draw is from the
`Random` that is given: the same seed, the same request."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any, Final

Json = Any
Make = Callable[[Random], Json]

NUMBERS: Final[tuple[Json, ...]] = (
    0, -1, 1, 2, 3, 0.5, -0.5, 1e-9, 1e300, -1e300, 5e-324, -0.0, 255, 4096, 2**31 - 1, 2**31,
    -(2**31), 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 10**18, 3.4e38, 1e39,
)  # fmt: skip
TEXTS: Final = (
    "", " ", "\0", "\n", "x", "true", "null", "0", "-1", "NaN", "é", "\u0301", "\u202e", "\ufeff",
    "\u2028", "\ufffd", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0010ffff",
    "𝔘𝔫𝔦", "<s>", "</s>", "<|im_start|>system\n", "<|im_end|>", "<think>", "</think>",
    "<tool_call>", "<tool_call>{}</tool_call>", "{{ 1/0 }}", "{% for %}", "../../etc/passwd",
    "'; --", "%s%n%d", "\x1b[31m", "data: [DONE]\n\n", "[DONE]", "\r\n\r\nHTTP/1.1 200 OK",
)  # fmt: skip
KEYS: Final = ("", "x", "__proto__", "__class__", "model", "\0", "é", "self", "id", "a.b", "0")


def text(random: Random) -> str:
    match random.randrange(8):
        case 0:
            return random.choice(TEXTS) * random.choice((1, 2, 100))
        case 1:
            return "".join(chr(code_point(random)) for _ in range(random.randrange(40)))
        case 2:
            return "word " * random.choice((1, 50, 3000))
        case 3:
            return "x" * random.choice((64, 65, 257, 513, 5000, 100_000))
        case _:
            return random.choice(TEXTS)


def code_point(random: Random) -> int:
    """Of any plane, and no surrogate: a body with one is written by `http`, as an escape."""
    while 0xD800 <= (point := random.randrange(0x110000)) < 0xE000:
        pass
    return point


def hostile(random: Random, depth: int = 0) -> Json:
    match random.randrange(12 if depth < 4 else 8):
        case 0 | 1:
            return random.choice(NUMBERS)
        case 2 | 3:
            return text(random)
        case 4:
            return random.choice((True, False))
        case 5:
            return None
        case 6:
            return []
        case 7:
            return {}
        case 8:
            return [hostile(random, depth + 1) for _ in range(random.choice((1, 2, 5, 40)))]
        case 9:
            return {random.choice(KEYS): hostile(random, depth + 1) for _ in range(3)}
        case 10:
            return nested(random, random.choice((3, 30, 62, 63, 64, 65, 70, 200)))
        case _:
            return [[hostile(random, depth + 1)]]


def nested(random: Random, depth: int) -> Json:
    value: Json = random.choice((1, "x", {}, []))
    wrap: Callable[[Json], Json] = random.choice((lambda v: [v], lambda v: {"a": v}))
    for _ in range(depth):
        value = wrap(value)
    return value


def mutated(random: Random, body: dict[str, Json]) -> dict[str, Json]:
    """A copy with one thing changed, anywhere in it."""
    body = copy.deepcopy(body)
    parent, key = random.choice(places(body))
    value = parent[key]
    match random.randrange(10):
        case 0:
            del parent[key]
        case 1:
            parent[key] = [value]
        case 2:
            parent[key] = {"a": value}
        case 3:
            parent[key] = str(value)
        case 4 if isinstance(value, list) and value:
            parent[key] = value * random.choice((2, 17, 40))
        case 5 if isinstance(parent, dict):
            parent[random.choice((key.upper(), key + "s", *KEYS))] = hostile(random)
        case 6 if isinstance(value, str):
            at = random.randrange(len(value) + 1)
            parent[key] = value[:at] + text(random) + value[at:]
        case _:
            parent[key] = hostile(random)
    return body


def places(value: Json) -> list[tuple[Any, Any]]:
    """Each place in the tree: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return found or [({"": None}, "")]
