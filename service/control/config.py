"""Settings that change while the service runs: what a change says, and what comes of it. Pure.

Changes are overrides above all that was said at start. Each makes a `Version`, which `versions`
keeps; what puts it in force is `service.tuning.reconfiguration`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Set
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from service.errors import InvalidSettings
from service.settings import Settings
from service.settings_errors import describe
from service.settings_needs import need
from service.settings_sources import Given

# A file is where overrides stand on: one that names another would not be read.
AT_START_ONLY: Final = frozenset({"config"})
WORDS_FOR_BOOLS: Final = frozenset({"flash_attention"})


class Version(msgspec.Struct, frozen=True):
    """`hash` is of all settings that it makes, and is their ETag; `made_at` in seconds of the epoch.

    `why`: "start", "configure", "preset:balanced", "weights", "advice:threads-physical",
    "rollback:3", "import" or "file". `overrides`: made at run time, above defaults < file <
    environment < command line, as they were written.
    """

    number: int
    hash: str
    made_at: float
    by: str
    why: str
    overrides: dict[str, Any]


class Applied(msgspec.Struct, frozen=True):
    """What a change did, or with `dry_run` would do. `changed`: key → (old, new), as JSON has them;
    `reloads`: models that were loaded anew; `restart`: keys that are in force from the next start
    on."""

    version: Version
    previous: Version
    changed: dict[str, tuple[Any, Any]]
    reloads: tuple[str, ...]
    restart: tuple[str, ...]
    dry_run: bool


def made(given: Given, overrides: Mapping[str, Any]) -> Settings:
    """All of it together; raises InvalidSettings."""
    try:
        return given.settings(overrides)
    except ValidationError as error:
        raise InvalidSettings(reasons(error)) from None


def reasons(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in error.errors():
        key, said, reason = describe(each).partition(": ")
        found.setdefault(key if said else "", reason if said else key)
    return found


def patched(overrides: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """None takes an override away. Raises InvalidSettings for what no value can be read from."""
    wrong = {
        key: reason for key, value in patch.items() if (reason := misplaced(key, value)) is not None
    }
    if wrong:
        raise InvalidSettings(wrong)
    try:
        plain = msgspec.json.decode(msgspec.json.encode(dict(patch), enc_hook=str))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        raise InvalidSettings({"": "JSON has no way to write one of the values"}) from None
    return {key: value for key, value in {**overrides, **plain}.items() if value is not None}


def misplaced(key: str, value: Any) -> str | None:
    field = Settings.model_fields.get(key)
    if field is None:
        return "there is no such setting"
    if key in AT_START_ONLY:
        return "can be said at the start only"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, bool) and field.annotation is not bool and key not in WORDS_FOR_BOOLS:
        return "cannot be true or false"
    return None


def written(settings: Settings) -> dict[str, Any]:
    """As JSON has them."""
    return settings.model_dump(mode="json")


def fingerprint(settings: Settings, without: Set[str] = frozenset()) -> str:
    said = settings.model_dump_json(exclude=set(without))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def differences(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    before, after = written(old), written(new)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def in_force(wanted: Settings, started: Settings) -> Settings:
    """Without what only a start can change."""
    fixed = {key: getattr(started, key) for key in Settings.model_fields if need(key) == "restart"}
    return wanted.model_copy(update=fixed)


def pending(wanted: Settings, started: Settings) -> tuple[str, ...]:
    """What waits for the next start."""
    return tuple(key for key in differences(started, wanted) if need(key) == "restart")


def is_meant(version: Version, expected: str) -> bool:
    """`expected` is a version's number or the hash of its settings."""
    return expected.strip() in (str(version.number), version.hash)
