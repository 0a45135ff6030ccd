"""Which pages of other origins a browser lets read answers."""

from __future__ import annotations

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.in_force import CurrentSettings

METHODS: Final = ("GET", "POST", "DELETE")
HEADERS: Final = (
    "Authorization Content-Type User-Agent Accept X-Requested-With OpenAI-Beta x-api-key "
    "X-Request-Id X-Request-Timeout X-LLM-Dialect "
    "anthropic-version anthropic-beta anthropic-dangerous-direct-browser-access "
    # Of the official clients, in a browser as anywhere.
    "x-stainless-arch x-stainless-helper-method x-stainless-lang x-stainless-os "
    "x-stainless-package-version x-stainless-retry-count x-stainless-runtime "
    "x-stainless-runtime-version x-stainless-timeout"
).split()


class Origins:
    """Starlette's answers to browsers, for the origins of the moment; absent where there are none."""

    def __init__(self, app: ASGIApp, settings: CurrentSettings) -> None:
        self.app = app
        self.settings = settings
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
        return CORSMiddleware(self.app, origins, allow_methods=METHODS, allow_headers=HEADERS)
