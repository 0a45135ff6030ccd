"""What is wrong with settings, in words that begin with the key."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


class SettingsError(Exception):
    """One line that names the key and says what is wrong with it."""


def complaint(error: ValidationError) -> str:
    return "; ".join(map(describe, error.errors()))


def describe(error: Any) -> str:
    key = ".".join(
        str(part) for part in error["loc"][: 3 if error["loc"][:1] == ("models",) else 1]
    )
    message = reason(error)
    return f"{key}: {message}" if key else message


def reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    return str(error["msg"]).removeprefix("Value error, ")
