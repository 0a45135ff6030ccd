"""The service's dashboards, which are Grafana's.

GET /dashboard, /dashboard/gpu, …          there, where the setting `grafana_url` says it is;
                                           else a page that says how to have it
GET /api/dashboard/{api,gpu}-metrics       404: the figures are at /api/metrics/…
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from service.dialects.framing import json_response
from service.dialects.state import State

# path → the dashboard's uid in Grafana, its title, and the same figures as JSON
PAGES: Final = {
    "/dashboard": ("llm-overview", "Overview", "/api/metrics/dashboard"),
    "/dashboard/gpu": ("llm-gpu", "GPU", "/api/metrics/gpu"),
    "/dashboard/models": ("llm-models", "Models", "/api/models"),
    "/dashboard/apis": ("llm-apis", "APIs", "/api/metrics/apis"),
    "/dashboard/config": ("llm-config", "Configuration", "/api/dashboard/configure"),
    "/dashboard/optimization": (
        "llm-optimization",
        "Optimization",
        "/api/metrics/optimization",
    ),
}
MOVED: Final = {
    "/api/dashboard/api-metrics": "/api/metrics/apis",
    "/api/dashboard/gpu-metrics": "/api/metrics/gpu",
}
HEADERS: Final = {
    # The page is text with a style of its own, and needs nothing of anybody.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:44em;margin:3em auto;padding:0 1em;color-scheme:light dark}"
    "td{padding:.2em 1.5em .2em 0}code{font-size:.95em}"
)

Endpoint = Callable[[Request[State]], Awaitable[Response]]


def page(path: str) -> Endpoint:
    uid, title, _ = PAGES[path]

    async def shown(request: Request[State]) -> Response:
        grafana = request.state["settings"].grafana_url
        if grafana is not None:
            return RedirectResponse(f"{grafana.rstrip('/')}/d/{uid}", 302)
        return HTMLResponse(text(title), headers=HEADERS)

    return shown


def text(title: str) -> str:
    rows = "".join(
        f'<tr><td><a href="{escape(path)}">{escape(name)}</a></td>'
        f"<td><code>/d/{escape(uid)}</code> in Grafana</td>"
        f'<td><a href="{escape(figures)}">figures as JSON</a></td></tr>'
        for path, (uid, name, figures) in PAGES.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        "<p>The dashboards are Grafana's, and this service was not told where it is.</p>"
        f"<table>{rows}</table>"
        "<p>To have them: <code>docker compose up</code> in a clone starts Prometheus, Grafana and "
        "the service, and Grafana is at port 3000. Where Grafana runs already, "
        "<code>docs/dashboards.md</code> says what to give it. With the setting "
        "<code>grafana_url</code> these addresses lead there.</p></body></html>"
    )


def moved(to: str) -> Endpoint:
    async def gone(request: Request[State]) -> Response:
        return json_response(
            {"error": f"moved to {to}"},
            404,
            headers={"Link": f'<{to}>; rel="successor-version"'},
        )

    return gone


at_root: Final = [
    *[Route(path, page(path)) for path in PAGES],
    *[Route(path, moved(to)) for path, to in MOVED.items()],
]
