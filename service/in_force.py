"""What each request finds of settings that change: those that were in force when it came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import Settings

METHODS: Final = ("GET", "POST", "DELETE")

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


class Origins:
    """Starlette's answers to browsers, for the origins of the moment; absent where there are none."""

    def __init__(self, app: ASGIApp, settings: CurrentSettings, headers: Sequence[str]) -> None:
        self.app = app
        self.settings = settings
        self.headers = headers
        self.origins: tuple[str, ...] = ()
        self.inner = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = self.settings().cors_origins
        if origins != self.origins:
            self.origins, self.inner = origins, self.guarding(origins)
        await self.inner(scope, receive, send)

    def guarding(self, origins: tuple[str, ...]) -> ASGIApp:
        if not origins:
            return self.app
        return CORSMiddleware(self.app, origins, allow_methods=METHODS, allow_headers=self.headers)
