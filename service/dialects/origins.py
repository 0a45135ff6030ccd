"""Who may ask from within a browser for what changes models, in whatever dialect that is asked."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from service.dialects.respond import State
from service.errors import Forbidden


def own_pages_only(request: Request[State]) -> None:
    """A page that a browser has open somewhere else could send a request like any of these, and
    needs no answer to have done harm. Programs do not say where they come from."""
    origin = request.headers.get("origin")
    if origin is None or origin in request.state["settings"].cors_origins:
        return
    if urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("pages of other origins may not change models here")
