"""Two hundred bodies that no honest client sends: each is a 4xx in less than a second."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from service.dialects.body import parse_object
from service.errors import InvalidRequest
from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MESSAGE = {"role": "user", "content": "hi"}
HUGE = 10**30

# Wrong in kind for every field: what JSON has.
KINDS: list[Any] = ["x", 1, 1.5, True, [], {}, [[]], [{}], [None], {"": None}]
WRONG: list[Any] = ["x", [], {}, True]
NO_OBJECTS: list[Any] = ["x", 1, [], True]
STOPS: list[Any] = [1, {}, [1], [[]], ["x"] * 17, "x" * 300]
CONTENTS: list[Any] = [1, True, {}, ["x"], [{}]]
NUMBERS = [
    "temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "dry_multiplier", "xtc_probability", "mirostat_tau",
]  # fmt: skip
INTEGERS = ["n", "seed", "max_tokens", "top_k", "top_logprobs", "min_tokens", "mirostat"]
OBJECTS = ["response_format", "logit_bias", "stream_options", "chat_template_kwargs"]


def raw() -> Iterator[bytes]:
    yield from (
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b"true",
        b'"x"',
        b"{",
        b"}",
        b"{]",
        b"\x00",
        b"\xff",
    )
    yield from (b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}')
    yield from (b'{"a":"\xff\xfe"}', b'{"\xc3":1}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xf5\x80"}')
    yield from (b'{"a":"\\ud800"}', b'{"a":"\\udfff\\ud800"}', b'{"\\ud800":1}')
    yield from (b'{"a":1,"a":1}', b'{"messages":[],"messages":[]}', b'{"a":{"b":1,"b":1}}')
    yield b'{"seed":' + b"9" * 5000 + b"}"
    yield b'{"seed":-' + b"9" * 20 + b"}"
    for depth in (65, 100, 1000, 10_000, 100_000):
        yield b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        yield b'{"a":' * depth + b"1" + b"}" * depth
        yield b'{"a":' + b"[" * depth
    yield b'{"a":"' + b"x" * (4 * 1024 * 1024) + b'"}'
    yield gzip.compress(b"0" * 10_000_000)
    yield b"model=demo&prompt=hi"
    yield b"<xml/>"


def wrong_kinds() -> Iterator[dict[str, Any]]:
    for name in NUMBERS:
        yield from ({name: kind} for kind in (*WRONG, HUGE))
        yield {name: -1e300}
    for name in INTEGERS:
        yield from ({name: kind} for kind in (*WRONG, 0.5, HUGE))
    for name in OBJECTS:
        yield from ({name: kind} for kind in NO_OBJECTS)
    yield from ({"stop": kind} for kind in STOPS)
    yield from ({"messages": kind} for kind in KINDS)
    yield from ({"messages": [{"role": kind, "content": "x"}]} for kind in KINDS)
    yield from ({"messages": [{"role": "user", "content": kind}]} for kind in CONTENTS)


def specific() -> Iterator[dict[str, Any]]:
    yield {"grammar": 'root ::= "\\x00"+'}
    yield {"grammar": "root ::= " + "(" * 100_000 + ")" * 100_000}
    yield {"grammar": "root ::= " + "(" * 5000 + '"a"' + ")" * 5000}
    yield {"grammar": "root ::= root"}
    yield {"grammar": 'root ::= root "a"'}
    yield {"grammar": "root ::= nothing"}
    yield {"grammar": 'root ::= ("a"*)*'}
    yield {"grammar": "not a grammar"}
    yield {"guided_regex": ["(a+)+$"]}
    yield {"guided_json": "[" * 100_000}
    yield {"json_schema": {"description": "x" * 100_000}}
    yield {"chat_template": "{% for a in range(10**9) %}{% endfor %}"}
    yield {"chat_template_kwargs": {"x": {"chat_template": "{{ 1 }}"}}}
    yield {"logit_bias": {str(n): 1 for n in range(5000)}}
    yield {"logit_bias": {"-5": 1}}
    yield {"logit_bias": {"99999999999999999999": 1}}
    yield {"stop": ["x"] * 10_000}
    yield {"n": 2**40}
    yield {"max_tokens": -(2**62)}
    yield {"model": "../../etc/passwd"}
    yield {"model": "x" * 100_000}
    yield {"model": "\x00"}
    yield {"tools": [{"type": "function", "function": {"name": "a" * 65}}]}
    yield {"tools": [{}] * 10_000}
    yield {"tool_choice": {"type": "function", "function": {"name": "f"}}}
    yield {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
        "url": "http://169.254.169.254/"}}]}]}  # fmt: skip
    yield {"prompt_embeds": "AAAA"}
    yield {"use_beam_search": True}


def corpus() -> list[tuple[str, bytes]]:
    bodies = [(path, body) for path in (CHAT,) for body in raw()]
    objects = [*wrong_kinds(), *specific()]
    bodies += [(CHAT, json.dumps({"messages": [MESSAGE], **body}).encode()) for body in objects]
    prompts: list[Any] = [
        None, 1, True, {}, [], [True], [1.5], [-1], [[-1]], [[]] * 2000, [None], [{}], ["a", 1],
        [2**40], [[1], "a", {}],
    ]  # fmt: skip
    bodies += [(TEXT, json.dumps({"prompt": prompt}).encode()) for prompt in prompts]
    bodies += [
        (TEXT, json.dumps({"prompt": "x", **body}).encode())
        for body in ({"suffix": 1}, {"best_of": 0}, {"logprobs": 1000}, {"echo": "yes"})
    ]
    return bodies


def test_every_hostile_body_is_refused_at_once() -> None:
    bodies = corpus()
    wrong = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for path, body in bodies:
            headers = {"content-encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
            started = time.monotonic()
            response = client.post(path, content=body, headers=headers)
            seconds = time.monotonic() - started
            if not 400 <= response.status_code < 500 or seconds >= 1:
                wrong.append((body[:80], response.status_code, seconds, response.text[:100]))
            assert response.json()["error"]["message"]

    assert len(bodies) >= 200
    assert wrong == []


def test_no_hostile_body_keeps_the_event_loop_for_long() -> None:
    """Measured in processor time, which other programs of the machine do not change."""
    slow = []
    for _, body in corpus():
        started = time.thread_time()
        with contextlib.suppress(InvalidRequest):
            parse_object(body)
        seconds = time.thread_time() - started
        if seconds > 0.1:
            slow.append((body[:80], seconds))

    assert slow == []
