"""What each request finds of settings that change: those that were in force when it came."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings

CurrentSettings = Callable[[], Settings]


class InForce:
    """Puts them into the request's state, where they stay the same until it has been answered."""

    def __init__(self, app: ASGIApp, settings: CurrentSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["state"]["settings"] = self.settings()
        await self.app(scope, receive, send)
