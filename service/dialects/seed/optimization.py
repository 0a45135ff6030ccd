"""Advice put in force by one call, taken back by another, and what came of each.

    POST /api/optimization/apply                 {"id": "threads-physical", "config_hash": "…"}
    POST /api/optimization/rollback/{change_id}  to the configuration before that change
    POST /api/optimization/dismiss               {"id": …, "until": Unix seconds}: not to be told again;
                                                 until 0 takes it back
    GET  /api/optimization/history               changes, verdicts, analyses, dismissals, trials
    POST /api/optimization/trial                 {"id": …}: before/advised/before, in minutes
    GET  /api/optimization/trial                 how far it is, and what came of the last one

`config_hash`, or If-Match with the ETag of the configuration, is what a change was thought out for: if
that is old, the answer is 409, or for the header 412.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.control.config import Applied
from service.control.history import measured_here
from service.control.records import KINDS, AnyRecord, Change, Judged
from service.dialects.body import read_object
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.seed.changes import expected, recorded
from service.dialects.state import State
from service.errors import InvalidRequest
from service.telemetry.http import exchange_of
from service.tuning.trial import DEFAULT_SECONDS, MOST_SECONDS

LONGEST: Final = 200
LISTED: Final = 100
MOST_LISTED: Final = 1000
LEAST_SECONDS: Final = 10.0
QUERY: Final = ("kind", "rule", "change", "since", "limit")


async def apply(request: Request[State]) -> Response:
    fields = await read(request)
    id, version = wanted(fields), version_of(request, fields)
    nothing_else(fields)
    with recorded(request, f"advice:{id}") as line:
        optimization = request.state["optimization"]
        change, applied = await optimization.apply(id, expected=version, by=line.by)
        line.of(applied)
    return json_response(encode(change, applied))


async def rollback(request: Request[State]) -> Response:
    fields = await read(request, empty=True)
    id, version = request.path_params["change_id"], version_of(request, fields)
    later = fields.flag("later_changes")
    nothing_else(fields)
    with recorded(request, f"rollback of change {id}"[:LONGEST]) as line:
        change, applied = await request.state["optimization"].rollback(
            id, expected=version, by=line.by, later=later
        )
        line.of(applied)
    return json_response(encode(change, applied))


async def dismiss(request: Request[State]) -> Response:
    fields = await read(request)
    id, until = wanted(fields), until_of(fields.number("until", low=0), time.time())
    nothing_else(fields)
    with recorded(request, "dismiss") as line:
        dismissed = await request.state["optimization"].dismiss(id, until=until, by=line.by)
        line.changes = {id: (None, "dismissed")}
    return json_response({"status": "success", "id": id, "until": dismissed.until})


async def history(request: Request[State]) -> Response:
    """The newest first."""
    query = request.query_params
    exchange_of(request.scope).ignored += [name for name in query if name not in QUERY]
    kinds = [kind for kind in query.get("kind", "").split(",") if kind]
    if unknown := set(kinds) - set(KINDS):
        raise InvalidRequest(
            f"kind: {min(unknown)[:LONGEST]} is none of {', '.join(KINDS)}", param="kind"
        )
    limit = int(figure(query.get("limit"), "limit", LISTED, 1, MOST_LISTED))
    since = figure(query.get("since"), "since", 0.0, 0.0, 1e12)
    rule, change = query.get("rule"), query.get("change")
    optimization = request.state["optimization"]
    known = optimization.history.records()
    found = [
        record
        for record in reversed(known)
        if record.at >= since
        and (not kinds or kind_of(record) in kinds)
        and (rule is None or rule_of(record) == rule)
        and (change is None or change_of(record) == change)
    ]
    rules = sorted({r.rule for r in known if isinstance(r, Judged) and r.rule is not None})
    return json_response(
        {
            "records": msgspec.to_builtins(found[:limit]),
            "total": len(found),
            "open_change": optimization.judging.open,
            "learned": {of: learned(optimization.learned(of)) for of in rules},
            "skipped_lines": optimization.history.skipped,
        }
    )


async def start_trial(request: Request[State]) -> Response:
    fields = await read(request)
    id, version = wanted(fields), version_of(request, fields)
    seconds = fields.number("seconds", low=LEAST_SECONDS, high=MOST_SECONDS)
    nothing_else(fields)
    with recorded(request, f"trial:{id}") as line:
        running = request.state["trial"].start(
            request.state["optimization"].advice(id),
            expected=version,
            by=line.by,
            seconds=DEFAULT_SECONDS if seconds is None else seconds,
        )
        line.result = "started"
    return json_response({"status": "started"} | msgspec.to_builtins(running), 202)


async def show_trial(request: Request[State]) -> Response:
    trial = request.state["trial"]
    return json_response(
        {"running": msgspec.to_builtins(trial.running), "last": msgspec.to_builtins(trial.last)}
    )


async def read(request: Request[State], *, empty: bool = False) -> Fields:
    """`empty`: whether the body may be none at all."""
    length = request.headers.get("content-length", "0")
    if empty and length == "0" and "transfer-encoding" not in request.headers:
        return Fields({})
    limit = request.state["settings"].max_body_bytes
    return Fields(await read_object(request.scope, request.receive, limit))


def wanted(fields: Fields) -> str:
    id = fields.text("id", longest=LONGEST)
    if not id:
        raise fields.bad("id", "which advice?")
    return id


def version_of(request: Request[State], fields: Fields) -> str | None:
    return expected(request, fields.text("config_hash", longest=LONGEST) or None)


def until_of(value: float | None, now: float) -> float | None:
    """Raises InvalidRequest for a time that is over, but for 0, which takes a dismissal back."""
    if value and value <= now:
        raise InvalidRequest("until: must be a time to come, in Unix seconds, or 0", param="until")
    return value


def nothing_else(fields: Fields) -> None:
    if unread := fields.unread():
        raise fields.bad(unread[0], "is not known")


def encode(change: Change, applied: Applied) -> dict[str, Any]:
    return {
        "status": "success",
        "change_id": change.id,
        "applied": {key: list(values) for key, values in applied.changed.items()},
        "reloads": list(applied.reloads),
        "restart": list(applied.restart),
        "version": applied.version.number,
        "config_hash": applied.version.hash,
        "verify": {"metric": change.metric, "direction": change.direction},
        "undone": change.undone,
    }


def learned(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    return msgspec.to_builtins(found) | {"text": measured_here(found)}  # type: ignore[no-any-return]


def kind_of(record: AnyRecord) -> str:
    return str(record.__struct_config__.tag)


def rule_of(record: AnyRecord) -> str | None:
    return getattr(record, "rule", None) or (
        getattr(record, "id", None) if kind_of(record) == "dismissal" else None
    )


def change_of(record: AnyRecord) -> str | None:
    if isinstance(record, Judged):
        return record.change
    return record.id if isinstance(record, Change) else None


def figure(text: str | None, name: str, default: float, low: float, high: float) -> float:
    try:
        value = default if text is None else float(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be a number", param=name) from None
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be between {low:g} and {high:g}", param=name)
    return value


PATH: Final = "/api/optimization"

at_root: Final = [
    Route(f"{PATH}/apply", apply, methods=["POST"]),
    Route(f"{PATH}/rollback/{{change_id}}", rollback, methods=["POST"]),
    Route(f"{PATH}/dismiss", dismiss, methods=["POST"]),
    Route(f"{PATH}/history", history),
    Route(f"{PATH}/trial", start_trial, methods=["POST"]),
    Route(f"{PATH}/trial", show_trial, methods=["GET"]),
]
