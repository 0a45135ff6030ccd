"""What changes of the configuration by HTTP have in common: the version that they were thought out for,
and their line in the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.access.caller import caller
from service.control.config import Applied
from service.dialects.state import State
from service.errors import ServiceError, StaleVersion


@dataclass
class Line:
    """Of the audit log, while it is not written. `by`: who asks. result: None where there is nothing
    to write down."""

    by: str
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    result: str | None = "done"
    version: int | None = None

    def of(self, applied: Applied) -> None:
        self.changes, self.version = applied.changed, applied.version.number
        if applied.dry_run:
            self.result = None


@contextmanager
def recorded(request: Request[State], action: str) -> Iterator[Line]:
    """What comes of the block is in the audit log. An old version is answered with 412 where a header
    named it, with 409 where the body did."""
    who, audit = caller(request), request.state["audit"]
    line = Line(who.name)
    try:
        yield line
    except ServiceError as error:
        audit.write(who, action, {}, error.code)
        if isinstance(error, StaleVersion) and etag(request) is not None:
            raise HTTPException(412, error.message) from None
        raise
    if line.result is not None:
        audit.write(who, action, line.changes, line.result, line.version)


def expected(request: Request[State], said: str | int | None = None) -> str | None:
    """The version, or its hash: by If-Match, else as the body says it; None where any will do."""
    return etag(request) or (None if said is None else str(said))


def etag(request: Request[State]) -> str | None:
    value = request.headers.get("if-match", "").strip().removeprefix("W/").strip('"')
    return None if value in ("", "*") else value
