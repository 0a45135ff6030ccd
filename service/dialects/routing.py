"""Where each dialect is spoken: under its prefix, by header, and at the root by path.

    /openai/…  /ollama/…          exactly that dialect's routes
    X-LLM-Dialect: openai         the same, for clients whose base URL has no path
    another port (`listeners`)    the same, for the paths that the port's dialect has
    otherwise                     each path as its best known claimant has it

At the root /v1 is a superset: OpenAI's shapes and errors, and beside them the parameters that
clients of vLLM and llama-server know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from service.dialects import (
    anthropic,
    collisions,
    llama_server,
    ollama,
    openai,
    seed,
    seed_analysis,
    seed_configure,
    seed_gpu,
    seed_metrics,
    seed_optimization,
    seed_pages,
    seed_presets,
    seed_weights,
    tgi,
    vllm,
)
from service.dialects.dialect import Dialect
from service.dialects.failures import Wording

DIALECTS: Final[Sequence[Dialect]] = (
    openai.DIALECT,
    ollama.DIALECT,
    anthropic.DIALECT,
    tgi.DIALECT,
    vllm.DIALECT,
    llama_server.DIALECT,
)
HEADER: Final = b"x-llm-dialect"
NAMES: Final = tuple(dialect.name for dialect in DIALECTS)

# Who words the failures below these paths, prefixes included; the first that fits counts.
WORDINGS: Final[Sequence[tuple[str, Wording]]] = (
    (f"/{ollama.DIALECT.name}/v1/", openai.DIALECT.wording),
    (f"/{vllm.DIALECT.name}/v1/messages", anthropic.DIALECT.wording),
    *[(f"/{dialect.name}/", dialect.wording) for dialect in DIALECTS],
    ("/v1/messages", anthropic.DIALECT.wording),
    *[(path, tgi.DIALECT.wording) for path in tgi.ROOT_PATHS],
    *[(path, vllm.DIALECT.wording) for path in vllm.ROOT_PATHS],
    *[(route.path, vllm.DIALECT.wording) for route in vllm.at_root],
    ("/api/chat/completions", openai.DIALECT.wording),
    ("/api/", ollama.DIALECT.wording),
    *[(path, llama_server.DIALECT.wording) for path in llama_server.ROOT_PATHS],
    ("", openai.DIALECT.wording),
)


def routes() -> list[BaseRoute]:
    return [
        *anthropic.at_root,
        *collisions.at_root,
        *openai.at_root,
        *ollama.at_root,
        *seed.at_root,
        *seed_metrics.at_root,
        *seed_pages.at_root,
        *seed_gpu.at_root,
        *seed_analysis.at_root,
        *seed_presets.at_root,
        *seed_weights.at_root,
        *seed_configure.at_root,
        *seed_optimization.at_root,
        *tgi.at_root,
        *vllm.at_root,
        *llama_server.at_root,
        *[Mount(f"/{dialect.name}", routes=list(dialect.routes)) for dialect in DIALECTS],
    ]


class ListenerDialect:
    """Takes what comes in on a port of its own for the prefix of the port's dialect, unless the
    request names a dialect itself, or the dialect has no such path."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self.name = name
        (self.routes,) = (dialect.routes for dialect in DIALECTS if dialect.name == name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not asked_for(scope) and self.has(scope):
            scope["path"] = f"/{self.name}{scope['path']}"
        await self.app(scope, receive, send)

    def has(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self.routes)


def asked_for(scope: Scope) -> str | None:
    """The dialect that the path or the header names."""
    first = scope["path"].split("/")[1:2]
    words = [value.strip().lower() for name, value in scope["headers"] if name == HEADER]
    return next((name for name in NAMES if [name] == first or name.encode() in words), None)


class DialectHeader:
    """Takes `X-LLM-Dialect: ollama` for the prefix /ollama. An unknown name changes nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.names = {dialect.name.encode(): dialect.name for dialect in DIALECTS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == HEADER and (dialect := self.names.get(value.strip().lower())):
                    # In place: what stands further outside reads the route off this scope.
                    scope["path"] = f"/{dialect}{scope['path']}"
                    break
        await self.app(scope, receive, send)
