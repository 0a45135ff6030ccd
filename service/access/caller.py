"""Who asks, and what they may: the scopes of keys, and the caller of a request."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Scope as Connection

# Where the gate leaves the caller of a request.
CALLER: Final = "llm.caller"
LOCAL: Final = "local"


class Scope(StrEnum):
    """None of them holds another: a key has those that its line names.

    `grammar` opens no route. It is the leave to send raw GBNF, which llama.cpp compiles, where
    JSON schemas, regular expressions and choices are put into grammars that are known to be tame.
    """

    INFERENCE = "inference"
    READ = "read"
    METRICS = "metrics"
    ADMIN = "admin"
    GRAMMAR = "grammar"


EVERY: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is that of the key, never the key; `local` where there are no keys. `models` are the
    patterns of the names that it may use and see; empty: all."""

    name: str
    scopes: frozenset[Scope]
    address: str
    models: tuple[str, ...] = ()

    def may(self, scopes: Collection[Scope]) -> bool:
        return not self.scopes.isdisjoint(scopes)


def caller(request: HTTPConnection[Any]) -> Caller:
    known: Caller | None = request.scope.get(CALLER)
    return known or Caller(LOCAL, EVERY, address_of(request.scope))


def address_of(connection: Connection) -> str:
    """Empty on a Unix socket."""
    client = connection.get("client")
    return str(client[0]) if client else ""
