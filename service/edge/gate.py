"""Stands before each route: who asks, from where, and whether this is for them.

    (1) no page of somebody else's, where the request changes something or lets a model work
    (2) without keys, everybody who can connect; that is this machine, unless the operator said more
    (3) the key must be known and not too old, and have one of the route's scopes
    (4) what generates counts against the limits of the key

It wraps the routes and is no middleware, for only the router knows which route a path is. A route
without a row in `access/routes.py` is open to nobody, once there are keys.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.caller import CALLER, Caller, address_of
from service.access.caller import Scope as KeyScope
from service.access.key_file import KeyFile
from service.access.keys import Key, Keys, presented
from service.access.limits import Allowances, Failures
from service.access.origins import READS, foreign
from service.access.routes import Scopes, scopes_for
from service.control.audit import Audit
from service.errors import Forbidden, RateLimited, Unauthorized
from service.telemetry.http import exchange_of

OPEN: Final = Scopes()
GENERATING: Final = Scopes({KeyScope.INFERENCE})
COUNTING: Final = Scopes({KeyScope.METRICS})
ADMINISTERING: Final = Scopes({KeyScope.ADMIN})
NOBODY: Final = Caller("", frozenset(), "")
FILE: Final = Caller("file", frozenset(), "")
# Of refused attempts at what only administrators may do: more in a minute add nothing.
AUDITED_REFUSALS: Final = 10
AUDITED_IN_ALL: Final = 100

# What a request of a key finds in its state, in place of what the lifespan put there.
View = Callable[[Mapping[str, Any], Caller], dict[str, Any]]
# Told why somebody was not let in.
OnFailure = Callable[[str], None]


@dataclass
class Gate:
    """`keys` None: none are needed. Belongs to one event loop."""

    keys: KeyFile | None
    view: View
    on_failure: OnFailure
    audit: Audit
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.failures = Failures()
        self.allowances = Allowances()
        self.refusals = Failures(AUDITED_REFUSALS)
        self.all_refusals = Failures(AUDITED_IN_ALL)
        if self.keys is not None:
            self.keys.listen(self.reloaded)

    def guarded(self, routes: Iterable[BaseRoute]) -> list[BaseRoute]:
        """The same routes behind the gate. The originals are shared among applications."""
        return [self._guarded(route) for route in routes]

    def _guarded(self, route: BaseRoute) -> BaseRoute:
        if isinstance(route, Mount):
            return Mount(route.path, routes=self.guarded(route.routes), name=route.name)
        if not isinstance(route, Route):
            raise TypeError(f"{route!r} is no route that could be guarded")
        methods = route.methods or set()
        guarded = copy.copy(route)
        guarded.app = Guarded(
            route.app,
            self,
            route.path,
            {method: scopes_for(method, route.path) for method in methods},
        )
        return guarded

    def reloaded(self, before: Keys, after: Keys, problem: str | None) -> None:
        self.allowances.keep(after.names)
        result = "done" if problem is None else f"refused: {problem}"
        self.audit.write(FILE, "keys", {"keys": (before.names, after.names)}, result)

    def identified(self, scope: Scope) -> Key:
        """Raises Unauthorized, or RateLimited where that was once too often."""
        assert self.keys is not None
        keys, why = self.keys.keys, "missing"
        for shown in presented(scope["headers"]):
            key = keys.find(shown)
            if key is None:
                why = "unknown"
            elif key.expires is not None and key.expires <= self.clock():
                why = "expired"
            else:
                return key
        wait = self.failures.count(address_of(scope))
        self.on_failure(why if wait is None else "throttled")
        if wait is not None:
            raise RateLimited("Too many requests without a valid API key.", retry_after=wait)
        raise Unauthorized


class Guarded:
    """One route. `scopes`: of each method that it takes."""

    __slots__ = ("app", "gate", "path", "scopes")

    def __init__(
        self, app: ASGIApp, gate: Gate, path: str, scopes: Mapping[str, Scopes | None]
    ) -> None:
        self.app = app
        self.gate = gate
        self.path = path
        self.scopes = scopes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gate, method = self.gate, scope["method"]
        scopes = self.scopes.get(method)
        if method not in READS:
            self.check_origin(scope, scopes)  # (1)
        if gate.keys is None or scopes == OPEN:  # (2)
            await self.app(scope, receive, send)
            return
        key = self.let_in(scope, scopes)  # (3)
        if scopes != GENERATING or method in READS:
            await self.app(scope, receive, send)
            return
        self.enter(key)  # (4)
        try:
            await self.app(scope, receive, send)
        finally:
            gate.allowances.leave(key)

    def check_origin(self, scope: Scope, scopes: Scopes | None) -> None:
        """Raises Forbidden."""
        origin, host = header(scope, b"origin"), header(scope, b"host") or ""
        if origin is None:
            return
        if not foreign(origin, host, scope["state"]["settings"].cors_origins):
            return
        self.gate.on_failure("origin")
        self.refused(scope, scopes, NOBODY, "refused: a page of another origin")
        raise Forbidden("Pages of other origins may not ask this server; cors_origins names those.")

    def let_in(self, scope: Scope, scopes: Scopes | None) -> Key:
        """Raises Unauthorized, RateLimited or Forbidden."""
        try:
            key = self.gate.identified(scope)
        except Unauthorized:
            self.refused(scope, scopes, NOBODY, "refused: no key that is valid")
            raise
        known = Caller(key.name, key.scopes, address_of(scope), key.models)
        exchange_of(scope).key_name = key.name
        if scopes is None or not known.may(scopes):
            self.gate.on_failure("scope")
            self.refused(scope, scopes, known, "refused: the key lacks the scope")
            needed = " or ".join(sorted(scopes or ())) or "one that no key has"
            raise Forbidden(f"The API key '{key.name}' lacks the scope for this: {needed}.")
        scope[CALLER] = known
        if scopes != COUNTING:
            scope["state"] = self.gate.view(scope["state"], known)
        return key

    def enter(self, key: Key) -> None:
        """Raises RateLimited."""
        excess = self.gate.allowances.enter(key)
        if excess is not None:
            self.gate.on_failure("limited")
            unit = "requests a minute" if excess.limit == "rpm" else "requests at a time"
            message = f"The API key '{key.name}' may make {excess.most} {unit}."
            raise RateLimited(message, retry_after=excess.wait)

    def refused(self, scope: Scope, scopes: Scopes | None, who: Caller, why: str) -> None:
        """Into the audit log, where it is for administrators alone; but no flood of it."""
        gate, address = self.gate, address_of(scope)
        if scopes != ADMINISTERING:
            return
        if gate.refusals.count(address) is None and gate.all_refusals.count("") is None:
            gate.audit.write(
                replace(who, address=address), f"{scope['method']} {self.path}", {}, why
            )


def header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value).decode("latin-1")
    return None
