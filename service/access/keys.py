"""The file of API keys: one line for each, read without any of them being in it.

    # name  scopes          digest                  expires=   rpm=    max_concurrent=   models=
    ci      inference       sha256:2c26b46b68ff…    rpm=60     models=qwen*,demo
    grafana metrics,read    sha256:fcde2b2edba5…    expires=2027-01-01

The digest is the SHA-256 of the key, in hex. A key has 256 random bits, so that nothing slower is
needed: there is no dictionary to try. `#` begins a comment.

Nothing that is wrong is repeated in a message, but for the number of its line: the word in the
wrong place may be the key itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from service.access.caller import LOCAL, Scope

MAX_KEYS: Final = 1024
MAX_PRESENTED: Final = 512
MAX_LIMIT: Final = 1_000_000
# Who changes things without a key: in the audit log these are no names of keys.
RESERVED: Final = frozenset({LOCAL, "file"})

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:/@*?\[\]!-]{1,256}")


class KeyFileError(Exception):
    """All that is wrong with the file, in one line."""


@dataclass(frozen=True, slots=True)
class Key:
    """`expires`: Unix time. `rpm`: requests a minute that generate, `max_concurrent`: at a time.
    `models`: patterns of the names of models; empty: all."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)
    expires: float | None = None
    rpm: int | None = None
    max_concurrent: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    all: tuple[Key, ...] = ()

    def find(self, presented: bytes) -> Key | None:
        """Compares with each of them, whichever it is: how long it takes tells nothing."""
        digest = hashlib.sha256(presented).digest()
        found = None
        for key in self.all:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @property
    def names(self) -> list[str]:
        return [key.name for key in self.all]


def parse(text: str) -> Keys:
    """Raises KeyFileError, which names every line that is wrong."""
    keys: list[Key] = []
    wrong = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key = parse_line(words)
            check_new(key, keys)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
        else:
            keys.append(key)
    if len(keys) > MAX_KEYS:
        wrong.append(f"there are more than {MAX_KEYS} keys")
    if wrong:
        raise KeyFileError("; ".join(wrong))
    return Keys(tuple(keys))


def check_new(key: Key, others: Iterable[Key]) -> None:
    for other in others:
        if other.name == key.name:
            raise ValueError("the name is there already")
        if other.digest == key.digest:
            raise ValueError("the key is there already, under another name")


def parse_line(words: list[str]) -> Key:
    """Raises ValueError."""
    if len(words) < 3:
        raise ValueError("must be `name scopes sha256:…`")
    name, scopes, digest, *rest = words
    options = dict(parse_option(word) for word in rest)
    if len(options) < len(rest):
        raise ValueError("an option is there twice")
    key = Key(parse_name(name), parse_scopes(scopes), parse_digest(digest), **options)
    if key.models and Scope.ADMIN in key.scopes:
        raise ValueError("`models` cannot hold back a key with the scope `admin`")
    return key


def parse_name(word: str) -> str:
    if not _NAME.fullmatch(word) or word in RESERVED:
        raise ValueError("the name must be letters, digits, `_`, `.` and `-`, 64 at most")
    return word


def parse_scopes(word: str) -> frozenset[Scope]:
    known = {scope.value: scope for scope in Scope}
    words = word.split(",")
    if not set(words) <= known.keys():
        raise ValueError(f"scopes are {', '.join(known)}, separated by commas alone")
    if words == [Scope.GRAMMAR.value]:
        raise ValueError("`grammar` opens nothing without `inference`")
    return frozenset(known[each] for each in words)


def parse_digest(word: str) -> bytes:
    match = _DIGEST.fullmatch(word)
    if match is None:
        raise ValueError("the third word must be `sha256:` and 64 hex digits in lower case")
    return bytes.fromhex(match[1])


def parse_option(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals or name not in OPTIONS:
        raise ValueError(f"options are {', '.join(f'{known}=' for known in OPTIONS)}")
    return name, OPTIONS[name](value)


def parse_expires(word: str) -> float:
    """A time without a zone is UTC, a day without a time is its beginning."""
    try:
        when = datetime.fromisoformat(word)
    except ValueError:
        raise ValueError("`expires` must be a time as 2027-01-01T12:00:00Z") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def parse_limit(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 7 and 0 < int(word) <= MAX_LIMIT):
        raise ValueError(f"`rpm` and `max_concurrent` must be 1 to {MAX_LIMIT}")
    return int(word)


def parse_models(word: str) -> tuple[str, ...]:
    patterns = tuple(word.lower().split(","))
    if not all(map(_PATTERN.fullmatch, patterns)):
        raise ValueError("`models` must be names of models, with * and ?, separated by commas")
    return patterns


OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "expires": parse_expires,
    "rpm": parse_limit,
    "max_concurrent": parse_limit,
    "models": parse_models,
}


def presented(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """What a request shows as its key: `Authorization: Bearer`, the password of `Basic` as browsers
    and Prometheus send it, and `x-api-key` as Anthropic's clients do."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, word = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield word.strip()[:MAX_PRESENTED]
            elif scheme.lower() == b"basic":
                yield password(word)[:MAX_PRESENTED]
        elif name == b"x-api-key":
            yield value.strip()[:MAX_PRESENTED]


def password(word: bytes) -> bytes:
    try:
        return base64.b64decode(word.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
