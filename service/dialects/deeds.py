"""What somebody does to models and to others' requests, for the audit log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.access.caller import caller
from service.dialects.body import ClientGone
from service.dialects.state import State
from service.errors import ServiceError

T = TypeVar("T")


class Deed:
    """One line, when it is over: that it is done, or why it is not. `changes`: from what to what.

        with Deed(request, "unload", model=(name, None)):
            await …

    Of what goes on after the block, `followed` says when it is over.
    """

    def __init__(self, request: Request[State], action: str, /, **changes: tuple[Any, Any]) -> None:
        self._audit = request.state["audit"]
        self._caller = caller(request)
        self._action = action
        self._changes = changes
        self._goes_on = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._goes_on:
            self._write(error)

    def followed(self, steps: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        self._goes_on = True
        return self._following(steps)

    async def _following(self, steps: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        try:
            async with aclosing(steps):
                async for step in steps:
                    yield step
        except BaseException as error:
            self._write(error)
            raise
        self._write(None)

    def _write(self, error: BaseException | None) -> None:
        self._audit.write(self._caller, self._action, self._changes, outcome(error))


def outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case ServiceError():
            return error.code
        case HTTPException():
            return str(error.status_code)
        case Exception() if not isinstance(error, ClientGone):
            return "internal_error"
    return "abandoned"


def toward(request: Request[State], action: str, id: str) -> AbstractContextManager[object]:
    """A deed where the request with that id is another key's: one's own are nobody's business."""
    found = request.state["runtime"].progress(id)
    if found is None or found.owner == caller(request).name:
        return nullcontext()
    return Deed(request, action, request=(id, None), owner=(found.owner, found.owner))
