"""Settings that change while the service runs.

    GET  /api/dashboard/configure            what is in force, whence, and what engines say of it
    POST /api/dashboard/configure            {key: value}: changes; null takes a change back
    GET  /api/dashboard/configure/versions   the last ten, the newest first
    POST /api/dashboard/configure/rollback   {"version": 3}: the changes of then, as a new version
    GET  /api/dashboard/configure/export     all that is not as it comes, as a YAML file
    POST /api/dashboard/configure/import     such a file, in the place of all changes

Every one that changes something takes `dry_run`, and the version that it was thought out for: as
`If-Match` with the ETag of what was read (412 when that is old), or as `version` in the body (409).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import yaml
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.control.config import Applied, Version, made, misplaced, written
from service.dialects.body import read_object, received
from service.dialects.fields import Fields
from service.dialects.framing import iso, json_response
from service.dialects.seed.changes import expected, recorded
from service.dialects.seed.presets import resolved
from service.dialects.state import State
from service.errors import InvalidRequest, InvalidSettings
from service.settings import Settings, SettingsError
from service.settings_file import Cautious, parse
from service.settings_needs import NEEDS

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus
    from service.tuning.reconfiguration import Reconfiguration

# A file of settings is a few hundred lines; PyYAML takes a second for each 100 KB.
MAX_FILE_BYTES: Final = 64 * 1024
# What older tools call them.
ALIASES: Final = {"context_size": "default_context_size", "n_threads": "threads"}
NOT_SETTINGS: Final = frozenset({"preset", "version", "dry_run"})
EMPTY: Final = "No configuration data provided"
# Shares are of one, to what rounding to two digits leaves of them.
ROUNDING: Final = 0.01 + 1e-9
# Of what an engine says of itself: what came of settings.
FACTS: Final = (
    "n_ctx",
    "n_ctx_seq",
    "n_ctx_train",
    "n_seq",
    "n_batch",
    "n_ubatch",
    "threads",
    "n_layer",
    "gpu_layers",
    "tensor_split",
    "main_gpu",
    "split_mode",
    "kv_layout",
    "cache_type_k",
    "cache_type_v",
    "flash_attention",
    "mmap",
    "mlock",
)


async def show(request: Request[State]) -> Response:
    found = request.state["reconfiguration"]
    stale = await asyncio.to_thread(found.file_differs)
    body = described(found, file_differs=stale) | {
        "engines": [encode_engine(status) for status in request.state["runtime"].models()
                    if status.facts is not None]
    }  # fmt: skip
    return versioned(body, found.version)


def described(found: Reconfiguration, *, file_differs: bool) -> dict[str, Any]:
    version, wanted = found.version, written(found.wanted)
    path = found.given.path
    return {
        **encode_version(version),
        "preset": found.preset,
        "config": written(found.settings),
        "sources": {key: found.given.source(key, version.overrides) for key in wanted},
        "needs": {key: NEEDS.get(key, "restart") for key in wanted},
        "restart": {key: wanted[key] for key in found.pending},
        "drift": {
            "file": None if path is None else str(path),
            "file_differs": file_differs,
            "problems": list(found.problems),
            "restart": list(found.pending),
        },
    }


def encode_engine(status: ModelStatus) -> dict[str, Any]:
    facts = asdict(status.facts) if status.facts is not None else {}
    return {"model": status.card.name, "state": status.state, "pid": status.pid} | {
        key: facts[key] for key in FACTS
    }


async def change(request: Request[State]) -> Response:
    body = await read_object(request.scope, request.receive, limit(request))
    given = {ALIASES.get(key, key): value for key, value in body.items()}
    if not given.keys() - {"version", "dry_run"}:
        raise InvalidRequest(EMPTY)
    fields = Fields(body)
    patch = {key: value for key, value in given.items() if key not in NOT_SETTINGS}
    why, lowered = "configure", dict[str, str]()
    try:
        check(given, patch)
        if (name := fields.text("preset", longest=64)) is not None:
            preset = await resolved(request, name)
            patch, why = {**preset.patch, **patch}, f"preset:{preset.preset.name}"
            lowered = {key: text for key, text in preset.why.items() if key not in given}
        version, dry_run = version_of(request, fields), fields.flag("dry_run")
        found = request.state["reconfiguration"]
        with recorded(request, why) as line:
            applied = await found.apply(
                patch, by=line.by, why=why, expected=version, dry_run=dry_run
            )
            line.of(applied)
    except InvalidSettings as error:
        return invalid(error)
    now = written(found.wanted) | {key: new for key, (_, new) in applied.changed.items()}
    answer = encode_applied(applied) | {"applied_config": {key: now[key] for key in sorted(patch)}}
    return versioned(answer | ({"lowered": lowered} if lowered else {}), found.version)


def check(given: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
    """All that can be said of single values, said together; raises InvalidSettings."""
    wrong = {key: reason for key, value in patch.items() if (reason := misplaced(key, value))}
    if (split := patch.get("tensor_split")) and (reason := unbalanced(split)):
        wrong["tensor_split"] = reason
    if wrong:
        raise InvalidSettings(wrong)


def unbalanced(split: Any) -> str | None:
    parts = split.split(",") if isinstance(split, str) else split
    try:
        total = sum(float(part) for part in parts)
    except (TypeError, ValueError):
        return "must be shares, such as 0.5,0.3,0.2"
    return None if abs(total - 1) <= ROUNDING else f"the shares must sum to 1, and sum to {total:g}"


async def versions(request: Request[State]) -> Response:
    found = request.state["reconfiguration"]
    now = found.version.number
    listed = [
        encode_version(version) | {"in_force": version.number == now}
        for version in found.versions()
    ]
    return versioned({"versions": listed}, found.version)


async def rollback(request: Request[State]) -> Response:
    fields = Fields(await read_object(request.scope, request.receive, limit(request)))
    number, dry_run = fields.integer("version", low=1, high=1 << 31), fields.flag("dry_run")
    if number is None:
        raise fields.bad("version", "which one?")
    if unread := fields.unread():
        raise fields.bad(unread[0], "is not known")
    found = request.state["reconfiguration"]
    try:
        with recorded(request, f"rollback:{number}") as line:
            applied = await found.rollback(
                number, by=line.by, expected=expected(request), dry_run=dry_run
            )
            line.of(applied)
    except InvalidSettings as error:
        return invalid(error)
    return versioned(encode_applied(applied), found.version)


async def export(request: Request[State]) -> Response:
    found = request.state["reconfiguration"]
    return Response(
        exported(found.wanted, found.version),
        media_type="application/yaml",
        headers={"ETag": f'"{found.version.hash}"'},
    )


def exported(settings: Settings, version: Version) -> str:
    said = settings.model_dump(
        mode="json", exclude_unset=True, exclude_none=True, exclude={"config"}
    )
    head = f"# Settings of llm-inference: version {version.number}, {version.hash}\n"
    return head + yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


async def take_in(request: Request[State]) -> Response:
    """What is as the file, the environment and the command line have it anyway is no change."""
    data = await received(request.scope, request.receive, MAX_FILE_BYTES)
    dry_run = request.query_params.get("dry_run", "").lower() in ("1", "true", "yes")
    found = request.state["reconfiguration"]
    try:
        text = data.decode()
        file = await asyncio.to_thread(parse, text, "the file", Cautious)
    except UnicodeDecodeError:
        raise InvalidRequest("The file is not UTF-8") from None
    except SettingsError as error:
        raise InvalidRequest(str(error).removeprefix("config: ")) from None
    if not (values := file.values):
        raise InvalidRequest(EMPTY)
    try:
        base = written(made(found.given, {}))
        new = written(made(found.given, values))
        overrides = {key: value for key, value in values.items() if new[key] != base[key]}
        with recorded(request, "import") as line:
            applied = await found.replace(
                overrides, by=line.by, why="import", expected=expected(request), dry_run=dry_run
            )
            line.of(applied)
    except InvalidSettings as error:
        return invalid(error)
    body = encode_applied(applied)
    return versioned(body | {"remarks": file.remarks} if file.remarks else body, found.version)


def version_of(request: Request[State], fields: Fields) -> str | None:
    return expected(request, fields.integer("version", low=1, high=1 << 31))


def limit(request: Request[State]) -> int:
    return request.state["settings"].max_body_bytes


def encode_version(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "hash": version.hash,
        "made_at": iso(version.made_at),
        "by": version.by,
        "why": version.why,
        "overrides": version.overrides,
    }


def encode_applied(applied: Applied) -> dict[str, Any]:
    words = "would be applied" if applied.dry_run else "applied successfully"
    return {
        "status": "success",
        "message": f"Configuration {words}",
        "changed": {key: list(values) for key, values in applied.changed.items()},
        "requires_reload": list(applied.reloads),
        "restart": list(applied.restart),
        "version": applied.version.number,
        "hash": applied.version.hash,
        "dry_run": applied.dry_run,
    }


def invalid(error: InvalidSettings) -> Response:
    return json_response({"error": error.message, "reasons": error.reasons}, error.status)


def versioned(body: dict[str, Any], version: Version) -> Response:
    return json_response(body, headers={"ETag": f'"{version.hash}"'})


PATH: Final = "/api/dashboard/configure"

at_root: Final = [
    Route(PATH, show, methods=["GET"]),
    Route(PATH, change, methods=["POST"]),
    Route(f"{PATH}/versions", versions),
    Route(f"{PATH}/rollback", rollback, methods=["POST"]),
    Route(f"{PATH}/export", export),
    Route(f"{PATH}/import", take_in, methods=["POST"]),
]
