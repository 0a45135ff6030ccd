"""Versions of the settings on disk, of which the newest that is whole counts.

One file for each, `<folder>/00000012.json`: a line with the SHA-256 of the rest, then JSON. It is
written beside, flushed to the disk and given its name as the last step, so that a crash at any
moment leaves the file whole or not there. What is damaged nevertheless is passed over, and told.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from pydantic import ValidationError

from service.control.config import Version, fingerprint, reasons
from service.errors import StateNotWritten
from service.settings import Settings
from service.settings_sources import Given
from service.whole_file import sync_folder

logger = logging.getLogger(__name__)

KEPT: Final = 10
# A hundred aliases and as many models with settings of their own are some 20 KB.
MAX_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"(\d{8,})\.json")


class Versions:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> tuple[list[Version], list[str]]:
        """Those that are whole, the newest first; and what is wrong with the others."""
        found, problems = [], []
        for number, path in self._files():
            try:
                found.append(_decoded(path, number))
            except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
                problems.append(f"{path.name} {_why(error)}")
        return found, problems

    def next_number(self) -> int:
        """Above those of damaged ones too."""
        return max((number for number, _ in self._files()), default=0) + 1

    def stage(self, version: Version) -> Staged:
        """On the disk, and not yet counted. Raises StateNotWritten, and leaves nothing."""
        target = self.folder / f"{version.number:08}.json"
        staged = Staged(self, target, target.with_suffix(f".{os.getpid()}.tmp"))
        body = msgspec.json.encode(version)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with staged.draft.open("wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            staged.drop()
            raise _not_written(error) from None
        return staged

    def tidy(self) -> None:
        """Without the oldest, and what writers left that did not come to their end."""
        with contextlib.suppress(OSError):
            old = [path for _, path in self._files()[KEPT:]]
            for path in [*old, *self.folder.glob("*.tmp")]:
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return []
        named = [(m, path) for path in paths if (m := _NAME.fullmatch(path.name))]
        return sorted(((int(m[1]), path) for m, path in named), reverse=True)


@dataclass(frozen=True)
class Staged:
    versions: Versions
    target: Path
    draft: Path

    def commit(self) -> None:
        """From now on it counts. Raises StateNotWritten, and then it never did."""
        try:
            os.replace(self.draft, self.target)
            sync_folder(self.target.parent)
        except OSError as error:
            self.drop()
            with contextlib.suppress(OSError):
                self.target.unlink(missing_ok=True)
            raise _not_written(error) from None
        self.versions.tidy()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self.draft.unlink(missing_ok=True)


@dataclass(frozen=True)
class Start:
    """What a service starts with. `problems`: why that is not the newest version, if it is not."""

    given: Given
    settings: Settings
    version: Version
    kept: tuple[Version, ...]
    problems: tuple[str, ...]


def started(given: Given, now: float) -> Start:
    """With the newest version that is whole and fits what was said at start; with that alone where
    there is none. Raises pydantic's ValidationError where even that cannot be honoured."""
    base = given.settings()
    kept, problems = Versions(folder_of(base)).read()
    for version in kept:
        try:
            settings = given.settings(version.overrides)
        except ValidationError as error:
            why = "; ".join(f"{key}: {reason}" for key, reason in reasons(error).items())
            problems.append(f"version {version.number} cannot be honoured any more ({why})")
        else:
            version = msgspec.structs.replace(version, hash=fingerprint(settings))
            return Start(given, settings, version, tuple(kept), tuple(problems))
    number = Versions(folder_of(base)).next_number()
    version = Version(number, fingerprint(base), now, "local", "start", {})
    return Start(given, base, version, tuple(kept), tuple(problems))


def afresh(settings: Settings, now: float) -> Start:
    """From settings that were made in the program, and nothing else."""
    given = Given(command_line={key: getattr(settings, key) for key in settings.model_fields_set})
    version = Version(1, fingerprint(settings), now, "local", "start", {})
    return Start(given, settings, version, (), ())


def folder_of(base: Settings) -> Path:
    """`base`: without overrides, which are found there."""
    return base.state_dir / "config"


def _decoded(path: Path, number: int) -> Version:
    """Raises ValueError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("is too large")
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body.removesuffix(b"\n")).hexdigest().encode() != digest:
        raise ValueError("is damaged")
    version = msgspec.json.decode(body, type=Version)
    if version.number != number:
        raise ValueError(f"has the number {version.number} inside")
    return version


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error) if type(error) is ValueError else "is damaged"


def _not_written(error: OSError) -> StateNotWritten:
    return StateNotWritten(f"The settings could not be kept on disk: {error.strerror}.")


def source_of(why: str) -> str:
    """The label of llm_config_changes_total."""
    kinds: Mapping[str, str] = {"file": "file", "preset": "preset", "advice": "recommendation"}
    return kinds.get(why.partition(":")[0], "api")


def preset_of(version: Version) -> str:
    kind, _, name = version.why.partition(":")
    return name if kind == "preset" else "custom"
