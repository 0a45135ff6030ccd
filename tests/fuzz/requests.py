"""Request number N of a dialect: a body that is meant to work, and what is then done to it.

in the JSON     other kinds, extremes, things missing, doubled, nested, misspelt
in its bytes    cut, bad UTF-8, lone surrogates, doubled keys, other encodings
in HTTP         methods, paths, headers, lengths
in time         the client hangs up: in its body, before the answer, within it
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Literal

from tests.fuzz.endpoint import Endpoint
from tests.fuzz.endpoints import DIALECTS
from tests.fuzz.values import KEYS, hostile, mutated

Header = tuple[bytes, bytes]

# Deeper than any parser should follow; longer than the server reads.
DEEP: Final = (65, 1000, 100_000)
LONG: Final = 5 * 1024 * 1024
WORDINGS: Final = frozenset({"openai", "ollama", "vllm", "tgi", "anthropic", "llama-server"})

# Paths that several dialects have: what cannot be read says nothing of whose it is.
SHARED: Final = {
    "/": frozenset({"openai", "tgi"}),
    "/tokenize": frozenset({"vllm", "tgi", "llama-server"}),
    "/invocations": frozenset({"openai", "vllm", "tgi"}),
}


@dataclass(frozen=True)
class Request:
    """`wordings`: dialects that may word what is wrong with it. `malformed`: its HTTP is, so that
    no dialect ever sees it. `astray`: it may have left its endpoint. `free`: the client says itself
    which keys it wants to see. `hang_up`: when the client leaves, and after how many bytes."""

    endpoint: Endpoint
    method: str
    target: bytes
    headers: tuple[Header, ...]
    body: bytes
    wordings: frozenset[str]
    malformed: bool = False
    astray: bool = False
    free: bool = False
    hang_up: tuple[Literal["body", "sent", "answer"], int] | None = None

    def raw(self) -> bytes:
        lines = [self.method.encode("latin-1") + b" " + self.target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def has(self, name: bytes) -> bool:
        return any(known.lower() == name for known, _ in self.headers)


def request(dialect: str, seed: int, number: int) -> Request:
    random = Random(f"{seed} {dialect} {number}")
    endpoints = DIALECTS[dialect]
    (endpoint,) = random.choices(endpoints, [each.weight for each in endpoints])
    value = endpoint.body(random)
    if value is None:
        body = b"" if random.random() < 0.9 else json.dumps(hostile(random)).encode()
    else:
        for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
            value = mutated(random, value)
        body = json.dumps(value, ensure_ascii=random.random() < 0.5).encode()
        if random.random() < 0.12:
            body = damaged(random, value, body)
    made = Request(
        endpoint,
        endpoint.method,
        endpoint.path.encode(),
        (
            (b"Host", b"localhost"),
            (b"Content-Type", content_type(random, endpoint)),
            (b"Content-Length", b"%d" % len(body)),
        ),
        body,
        SHARED.get(endpoint.path, frozenset({endpoint.wording})),
        free=b"response_fields" in body,
    )
    if random.random() < 0.12:
        made = bent(random, made)
    if random.random() < 0.08:
        made = replace(made, hang_up=leaving(random, made))
    return made


def content_type(random: Random, endpoint: Endpoint) -> bytes:
    if random.random() < 0.95:
        return b"application/json"
    return random.choice(
        (
            b"application/x-www-form-urlencoded",
            b"text/plain",
            b"application/json; charset=utf-16",
            b"multipart/form-data; boundary=x",
            b"",
            b"\xff\xfe",
        )
    )


def damaged(random: Random, value: Any, body: bytes) -> bytes:
    at = random.randrange(len(body) + 1)
    match random.randrange(14):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + random.choice((b"\xff", b"\xed\xa0\x80", b"\0", b"\xc3")) + body[at:]
        case 2:
            return body[:-1] + b',"x":"\\ud800"}'
        case 3:
            return body[:-1] + b',"x":1,"x":2}'
        case 4:
            return body[:-1] + random.choice((b',"n":NaN}', b',"x":-Infinity}', b',"x":1e999}'))
        case 5:
            return b"\xef\xbb\xbf" + body
        case 6:
            return body.decode("utf-8", "replace").encode("utf-16")
        case 7:
            return body + random.choice((b"x", b"{}", b"\0", b"\n\n"))
        case 8:
            depth = random.choice(DEEP)
            return body[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
        case 9:
            return body[:-1] + b',"seed":' + b"9" * random.choice((19, 20, 5000)) + b"}"
        case 10:
            return random.choice((b"", b" ", b"null", b"[]", b'"x"', b"{", b"<xml/>", b"a=b&c=d"))
        case 11:
            return json.dumps([value]).encode()
        case 12 if random.random() < 0.1:
            return body[:-1] + b',"x":"' + b"x" * LONG + b'"}'
        case _:
            return json.dumps({**value, random.choice(KEYS): hostile(random)}).encode()


def bent(random: Random, made: Request) -> Request:
    match random.randrange(12):
        case 0 | 1:
            method = random.choice(("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"))
            return replace(made, method=method, astray=True)
        case 2:
            method = random.choice(("BREW", "get", "CONNECT", "", "POST POST", "PÖST"))
            return replace(made, method=method, malformed=True)
        case 3 | 4:
            return strayed(random, made)
        case 5:
            named = random.choice(sorted(WORDINGS)).encode()
            told = with_header(made, b"X-LLM-Dialect", named)
            return replace(told, wordings=WORDINGS, astray=True)
        case 6:
            value = random.choice((b"abc", b"-1", b"nan", b"inf", b"0.05", b"1e-9", b"30", b""))
            return with_header(made, b"X-Request-Timeout", value)
        case 7:
            value = random.choice((b"abc", b"\xff", b"x" * 65, b"a b", b"", b"../x"))
            return with_header(made, b"X-Request-Id", value)
        case 8:
            packed = gzip.compress(made.body)
            coded = with_header(with_body(made, packed), b"Content-Encoding", b"gzip")
            return random.choice((coded, with_header(made, b"Content-Encoding", b"zstd, br")))
        case 9:
            return with_header(
                made,
                *random.choice(
                    (
                        (b"Accept", b"text/html"),
                        (b"Accept", b"\xff"),
                        (b"Accept-Encoding", b"gzip;q=nan"),
                        (b"Expect", b"100-continue"),
                        (b"Origin", b"http://evil.example"),
                        (b"Authorization", b"Bearer \xff"),
                        (b"X-Vllm-Priority", b"x"),
                        (b"anthropic-version", b"1"),
                        (b"User-Agent", b"GitHubCopilotChat/1"),
                        (b"Upgrade", b"h2c"),
                    )
                ),
            )
        case 10:
            return chunked(made)
        case _:
            return broken(random, made)


def strayed(random: Random, made: Request) -> Request:
    path = made.target
    other = random.choice(
        (
            path + b"/",
            path.upper(),
            b"/" + path,
            path + b"%00",
            path + b"/../..",
            path + b"?" + b"a=%ff&" * 20,
            b"/" + path[1:].replace(b"/", b"%2f"),
            b"/" + "".join(chr(random.randrange(33, 127)) for _ in range(20)).encode(),
            path + b"/" + b"x" * 5000,
            b"/api/%F0%9F%98%80",
            b"/v1/models/" + b"%2F" * 100,
        )
    )
    return replace(made, target=other, wordings=WORDINGS, astray=True)


def broken(random: Random, made: Request) -> Request:
    length = len(made.body)
    headers = random.choice(
        (
            ((b"Host", b"evil.example"),),
            ((b"Host", b"localhost"), (b"Host", b"localhost")),
            (),
            ((b"Host", b"localhost"), (b"Content-Length", b"-1")),
            ((b"Host", b"localhost"), (b"Content-Length", b"1"), (b"Content-Length", b"2")),
            ((b"Host", b"localhost"), (b"Content-Length", b"9" * 30)),
            ((b"Host", b"localhost"), (b"Content-Length", b"%d" % max(length - 1, 0))),
            ((b"Host", b"localhost"), (b"X", b"x" * 40_000), (b"Content-Length", b"%d" % length)),
            ((b"Host", b"localhost"), (b"Bad Name", b"x"), (b"Content-Length", b"%d" % length)),
            ((b"Host", b"localhost"), (b"Transfer-Encoding", b"gzip")),
            (
                (b"Host", b"localhost"),
                (b"Transfer-Encoding", b"chunked"),
                (b"Content-Length", b"%d" % length),
            ),
            ((b"Host", b"localhost"), *[(b"X%d" % n, b"") for n in range(500)]),
        )
    )
    return replace(made, headers=headers, malformed=True)


def chunked(made: Request) -> Request:
    parts = [made.body[at : at + 7] for at in range(0, min(len(made.body), 7000), 7)]
    parts.append(made.body[7000:] if len(made.body) > 7000 else b"")
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    kept = tuple(header for header in made.headers if header[0] != b"Content-Length")
    return replace(made, headers=(*kept, (b"Transfer-Encoding", b"chunked")), body=coded)


def with_header(made: Request, name: bytes, value: bytes) -> Request:
    return replace(made, headers=(*made.headers, (name, value)))


def with_body(made: Request, body: bytes) -> Request:
    kept = tuple(header for header in made.headers if header[0] != b"Content-Length")
    return replace(made, headers=(*kept, (b"Content-Length", b"%d" % len(body))), body=body)


def leaving(random: Random, made: Request) -> tuple[Literal["body", "sent", "answer"], int]:
    if made.body and random.random() < 0.3:
        return "body", random.randrange(len(made.raw()))
    return random.choice((("sent", 0), ("answer", 1), ("answer", 300)))
