"""Where each dialect is spoken: under its prefix, by header, and at the root by path.

    /openai/…  /ollama/…          exactly that dialect's routes
    X-LLM-Dialect: openai         the same, for clients whose base URL has no path, where the dialect
                                  has the path
    another port (`listeners`)    as the header does
    otherwise                     each path as its best known claimant has it

At the root /v1 is a superset: OpenAI's shapes and errors, and beside them the parameters that
clients of vLLM and llama-server know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from service.dialects import collisions
from service.dialects.anthropic import routes as anthropic
from service.dialects.dialect import Dialect
from service.dialects.failures import Wording
from service.dialects.llama_server import routes as llama_server
from service.dialects.ollama import routes as ollama
from service.dialects.openai import routes as openai
from service.dialects.seed import analysis as seed_analysis
from service.dialects.seed import configure as seed_configure
from service.dialects.seed import gpu as seed_gpu
from service.dialects.seed import metrics as seed_metrics
from service.dialects.seed import optimization as seed_optimization
from service.dialects.seed import pages as seed_pages
from service.dialects.seed import presets as seed_presets
from service.dialects.seed import routes as seed
from service.dialects.seed import weights as seed_weights
from service.dialects.tgi import routes as tgi
from service.dialects.vllm import routes as vllm

DIALECTS: Final[Sequence[Dialect]] = (
    openai.DIALECT,
    ollama.DIALECT,
    anthropic.DIALECT,
    tgi.DIALECT,
    vllm.DIALECT,
    llama_server.DIALECT,
)
HEADER: Final = b"x-llm-dialect"
METRICS: Final = "/metrics"
NAMES: Final = tuple(dialect.name for dialect in DIALECTS)
SPOKEN: Final = frozenset(name.encode() for name in NAMES)
ROUTES: Final = {dialect.name: dialect.routes for dialect in DIALECTS}

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not prefixed(scope) and named(scope) is None:
            turn(scope, self.name)
        await self.app(scope, receive, send)


class DialectHeader:
    """Takes `X-LLM-Dialect: ollama` for the prefix /ollama. A prefix of the path's own counts for
    more; an unknown name changes nothing, nor does a dialect that has no such path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not prefixed(scope) and (name := named(scope)):
            turn(scope, name)
        await self.app(scope, receive, send)


def prefixed(scope: Scope) -> bool:
    return scope["path"].partition("/")[2].partition("/")[0] in NAMES


def named(scope: Scope) -> str | None:
    """The dialect that the header names."""
    words = (value.strip().lower() for name, value in scope["headers"] if name == HEADER)
    return next((word.decode() for word in words if word in SPOKEN), None)


def turn(scope: Scope, name: str) -> None:
    """To that dialect, where it has the path. In place: what stands further outside reads the
    route off this scope."""
    has = any(route.matches(scope)[0] is not Match.NONE for route in ROUTES[name])
    # Metrics are the service's, to which dialects that have the path only lead.
    if has and scope["path"] != METRICS:
        scope["path"] = f"/{name}{scope['path']}"
