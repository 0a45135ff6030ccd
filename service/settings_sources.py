"""Where settings are read from. Later sources win, each value as a whole:

defaults < YAML file (--config, LLM_CONFIG) < environment (LLM_<KEY>) < command line
         < what was changed while the service ran (`service.control.config`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from service.settings import Settings
from service.settings_errors import SettingsError, complaint
from service.settings_file import read_file

Source = Literal["default", "file", "environment", "command line", "override"]


@dataclass(frozen=True)
class Given:
    """What was said, by where. Keys are settings', values as they were written."""

    file: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    command_line: Mapping[str, Any] = field(default_factory=dict)
    # Of the file: what was passed over.
    remarks: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        path = self.command_line.get("config") or self.environment.get("config")
        return Path(path) if path else None

    def settings(self, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Raises pydantic's ValidationError."""
        return Settings(
            **{**self.file, **self.environment, **self.command_line, **(overrides or {})}
        )

    def source(self, key: str, overrides: Mapping[str, Any]) -> Source:
        """Whence its value comes."""
        places: tuple[tuple[Source, Mapping[str, Any]], ...] = (
            ("override", overrides),
            ("command line", self.command_line),
            ("environment", self.environment),
            ("file", self.file),
        )
        return next((name for name, values in places if key in values), "default")


def read(command_line: Mapping[str, Any]) -> Given:
    """Raises SettingsError for a file that is none. `command_line` has only what was said there."""
    given = Given({}, EnvSettingsSource(Settings)(), command_line)
    if given.path is None:
        return given
    file = read_file(given.path)
    return replace(given, file=file.values, remarks=file.remarks)


def load(command_line: Mapping[str, Any]) -> Settings:
    """Raises SettingsError."""
    try:
        return read(command_line).settings()
    except ValidationError as error:
        raise SettingsError(complaint(error)) from None
