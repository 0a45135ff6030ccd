"""Buttons in panels that change the service, where it was asked for when the dashboards were built.

Grafana has the browser send these requests, without any credential. The header is one that no form
can send, so a browser asks the service first whether this origin may (CORS).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as sdk


@dataclass(frozen=True)
class Actions:
    """`service` is the address of the service as browsers reach it; None: no buttons."""

    service: str | None = None

    def post(self, title: str, path: str, body: dict[str, str], question: str) -> list[sdk.Action]:
        if self.service is None:
            return []
        return [
            sdk.Action(
                type_val=sdk.ActionType.FETCH,
                title=title,
                confirmation=question,
                fetch=sdk.FetchOptions(
                    method=sdk.HttpRequestMethod.POST,
                    url=self.service.rstrip("/") + path,
                    headers=[["Content-Type", "application/json"], ["X-Requested-With", "Grafana"]],
                    body=json.dumps(body),
                ),
            )
        ]
