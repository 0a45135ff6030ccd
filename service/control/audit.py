"""Who changed what: one line for each change, in `audit.log` of the state directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from service.access.caller import Caller


class Audit(Protocol):
    """`changes`: what was changed, from what, to what. `result`: `done`, or why not. `version`: of
    the configuration that is in force after it."""

    def write(
        self,
        caller: Caller,
        action: str,
        changes: Mapping[str, tuple[Any, Any]],
        result: str,
        version: int | None = None,
    ) -> None: ...


class Unwritten:
    """For what has no audit log, as tests of single parts have none."""

    def write(
        self,
        caller: Caller,
        action: str,
        changes: Mapping[str, tuple[Any, Any]],
        result: str,
        version: int | None = None,
    ) -> None:
        return None
