"""What a dialect is to the application: its routes, and its way to say that something failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from service.dialects.failures import Wording


@dataclass(frozen=True)
class Dialect:
    """`routes` are all it has, as they stand under its own prefix: /ollama/api/tags. Those at the
    root of the server are chosen in `routing`, for there the dialects meet."""

    name: str
    routes: Sequence[Route]
    wording: Wording
