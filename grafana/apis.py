"""Which dialect and endpoint is used, fails, or is slow?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import Query, heatmap, series, stat, text
from grafana.queries import API, ENDPOINT, SERVICE, share, share_or_none, total
from grafana.tables import Column, table
from grafana.thresholds import (
    BUDGET_RATIO,
    BURN_RATE,
    ERROR_RATIO,
    FIRST_TOKEN_SECONDS,
    SUCCESS_RATIO,
)

SUCCESS: Final = 'code=~"2.."'
# Who went away got no answer that could be good or bad.
STAYED: Final = 'code!="499"'
FAILED: Final = 'code=~"5.."'
# A refusal says nothing of how well the rest is served.
TAKEN: Final = 'code!~"4.."'
# The objective: 99 of 100 requests that were taken are answered.
OBJECTIVE: Final = 0.01
# A bucket's bound.
FIRST_TOKEN: Final = 'le="2.5"'
BOTH: Final = "api, endpoint"

MATRIX: Final = """\
| | OpenAI | Ollama | vLLM | TGI | Anthropic | llama-server |
|---|---|---|---|---|---|---|
| chat | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
| text completion | ✓ | ✓ | ✓ | ✓ | – | ✓ |
| streamed | SSE | NDJSON | SSE | SSE | SSE | SSE |
| tool calls | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
| structured output | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ |
| embeddings | ✓ | ✓ | ✓ | – | – | ✓ |
| ranking | – | – | ✓ | – | – | ✓ |
| tokenizing | – | – | ✓ | ✓ | counted | ✓ |
| models managed | – | ✓ | – | – | – | – |

`docs/clients.md` of the project has what each client can do."""


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["apis"],
        title="LLM / APIs",
        description="Traffic, errors, latency and objectives of each dialect and endpoint.",
        variables=[variables.api(), variables.endpoint()],
        rows=[
            Row("$api", dialect(), repeat="api"),
            Row("Endpoints", [endpoints()]),
            Row("Traffic", traffic()),
            Row("Errors", errors()),
            Row("Latency", latency()),
            Row("Objectives", objectives()),
            Row("All of HTTP", http(), collapsed=True),
            Row("What each dialect has", [text("Dialects", MATRIX, w=24, h=10)], collapsed=True),
        ],
    )


def dialect() -> list[sdk.Panel]:
    """For one dialect, which the row names."""
    good = total(API.rate("llm_requests_total", SUCCESS))
    return [
        stat(
            "Requests",
            "Answered in a minute.",
            Query(f"60 * {total(API.rate('llm_requests_total'))}", "requests"),
            unit="suffix: /min", decimals=1, w=8, h=3,
        ),
        stat(
            "Successful",
            "Answered with 2xx, of all whose client stayed. Good is above 95 %.",
            Query(share_or_none(good, total(API.rate("llm_requests_total", STAYED))), "success"),
            unit="percentunit", steps=SUCCESS_RATIO, w=8, h=3,
        ),
        stat(
            "Duration p95",
            "From arrival to the last byte.",
            Query(API.quantile(0.95, "llm_request_duration_seconds"), "p95"),
            unit="s", w=8, h=3,
        ),
    ]  # fmt: skip


def endpoints() -> sdk.Panel:
    def rate(more: str = "") -> str:
        return total(ENDPOINT.rate("llm_requests_total", more), BOTH)

    return table(
        "Endpoints",
        "Of the time shown. Good: above 95 % successful, no failure.",
        {"api": "Dialect", "endpoint": "Endpoint"},
        [
            Column("Requests", total(ENDPOINT.increase("llm_requests_total", over="$__range"), BOTH), "locale", decimals=0),
            Column("A minute", f"60 * {rate()}", decimals=1),
            Column("Successful", share_or_none(rate(SUCCESS), rate(STAYED)), "percentunit", SUCCESS_RATIO, high=1),
            Column("Failed", share_or_none(rate(FAILED), rate()), "percentunit", ERROR_RATIO),
            Column("p50", ENDPOINT.quantile(0.5, "llm_request_duration_seconds", BOTH), "s"),
            Column("p95", ENDPOINT.quantile(0.95, "llm_request_duration_seconds", BOTH), "s"),
        ],
        key_links={"Dialect": [links.of_row("apis", "api", "Dialect")]},
        sort_by="Requests",
    )  # fmt: skip


def traffic() -> list[sdk.Panel]:
    return [
        series(
            "Requests by dialect",
            "Answered in a second.",
            Query(total(ENDPOINT.rate("llm_requests_total"), "api"), "{{api}}"),
            stacked=True, unit="reqps", links=[links.of_series("apis", "api")], w=12,
        ),
        series(
            "Streamed and whole",
            "By whether the client asked for a stream.",
            Query(total(ENDPOINT.rate("llm_requests_total", 'stream="true"')), "streamed"),
            Query(total(ENDPOINT.rate("llm_requests_total", 'stream="false"')), "whole"),
            stacked=True, unit="reqps", w=12,
        ),
    ]  # fmt: skip


def errors() -> list[sdk.Panel]:
    ended = total(API.rate("llm_requests_finished_total"))
    return [
        series(
            "Status codes but 2xx",
            "4xx are refusals, 499 clients that went away, 5xx failures: good is none of the last.",
            Query(total(ENDPOINT.rate("llm_requests_total", 'code!~"2.."'), "code"), "{{code}}"),
            stacked=True, unit="reqps", no_value="None", w=6,
        ),
        series(
            "Refusals by reason",
            "What was wrong, or what was short.",
            Query(API.occurred("llm_requests_rejected_total", "reason"), "{{reason}}"),
            stacked=True, unit="reqps", no_value="None", w=6,
        ),
        series(
            "Answers by how they ended",
            "`length` is cut short, `error` and `timeout` are failures.",
            Query(total(API.rate("llm_requests_finished_total"), "finish_reason"), "{{finish_reason}}"),
            names=("stop", "length", "error", "cancelled", "timeout"), stacked=True, unit="reqps", w=6,
        ),
        series(
            "Cancelled",
            "Part of the answers that nobody waited for. Rising with latency, it is impatience.",
            Query(share(total(API.rate("llm_requests_finished_total", 'finish_reason="cancelled"')), ended), "cancelled"),
            unit="percentunit", low=0, w=6,
        ),
        series(
            "Keys that were not good enough",
            "Requests that were not let in, by reason. Many of one kind are a client to mend, or a guess.",
            Query(total(SERVICE.rate("llm_auth_failures_total"), "reason"), "{{reason}}"),
            stacked=True, unit="reqps", w=24, h=5,
        ),
    ]  # fmt: skip


def latency() -> list[sdk.Panel]:
    return [
        heatmap(
            "Whole requests",
            "Bands are kinds of requests: short answers, long ones, failures.",
            total(ENDPOINT.rate("llm_request_duration_seconds_bucket"), "le"),
            unit="s", w=12,
        ),
        series(
            "Whole request p95 by endpoint",
            "From arrival to the last byte.",
            Query(ENDPOINT.quantile(0.95, "llm_request_duration_seconds", "endpoint"), "{{endpoint}}", exemplars=True),
            unit="s", w=12,
        ),
        series(
            "First token p95 by dialect",
            "Good is below 2.5 s; points lead to single requests.",
            Query(API.quantile(0.95, "llm_time_to_first_token_seconds", "api"), "{{api}}", exemplars=True),
            unit="s", steps=FIRST_TOKEN_SECONDS, limits=True, w=12,
        ),
        series(
            "Queue p95 by dialect",
            "Time without a slot. Good is below a second.",
            Query(API.quantile(0.95, "llm_request_queue_seconds", "api"), "{{api}}"),
            unit="s", w=12,
        ),
    ]  # fmt: skip


def failing(window: str) -> str:
    """Part of the requests of the window that failed, of those that were taken."""
    bad = total(SERVICE.rate("llm_requests_total", FAILED, window))
    return share_or_none(bad, total(SERVICE.rate("llm_requests_total", TAKEN, window)))


def objectives() -> list[sdk.Panel]:
    def early(window: str) -> str:
        return share(
            total(SERVICE.rate("llm_time_to_first_token_seconds_bucket", FIRST_TOKEN, window)),
            total(SERVICE.rate("llm_time_to_first_token_seconds_count", "", window)),
        )

    return [
        stat(
            "Error budget left, 30 days",
            "Of the 1 % of requests that may fail. Below nothing the objective is missed.",
            Query(f"1 - {failing('30d')} / {OBJECTIVE}", "left"),
            unit="percentunit", steps=BUDGET_RATIO, w=6, h=7,
        ),
        series(
            "Burn rate",
            "1 spends the budget in 30 days. 14.4 for an hour, or 6 for six, is an alert.",
            Query(f"{failing('1h')} / {OBJECTIVE}", "1 hour"),
            Query(f"{failing('6h')} / {OBJECTIVE}", "6 hours"),
            steps=BURN_RATE, limits=True, w=9, h=7,
        ),
        series(
            "First token in 2.5 s",
            "Part of the requests of an hour. The objective is 95 %.",
            Query(early("1h"), "in time"),
            unit="percentunit", low=0, high=1, steps=((None, "red"), (0.95, "green")), limits=True, w=9, h=7,
        ),
    ]  # fmt: skip


def http() -> list[sdk.Panel]:
    return [
        series(
            "Requests of every route",
            "Health, listings and scrapes too.",
            Query(total(SERVICE.rate("llm_http_requests_total"), "endpoint, method, code"), "{{method}} {{endpoint}} {{code}}"),
            stacked=True, unit="reqps", w=12,
        ),
        series(
            "Bytes sent",
            "Of response bodies, by route.",
            Query(total(SERVICE.rate("llm_http_response_bytes_total"), "endpoint"), "{{endpoint}}"),
            stacked=True, unit="Bps", w=12,
        ),
    ]  # fmt: skip
