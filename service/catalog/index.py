"""What was read of GGUF files before, so that a start does not read it again.

An entry stands for a path as long as inode, size and time of change stay. It also keeps whether
the file's SHA-256 was found to be the one in its name, which takes half a second a gigabyte.
The file is a cache: one that is missing, of another version or damaged is made anew.
"""

from __future__ import annotations

import logging
import os
import stat as modes
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec
from msgspec import Struct

from service.catalog.card import Problem
from service.catalog.confined import within
from service.catalog.gguf_file import GgufFile, describe
from service.catalog.names import digest_in
from service.whole_file import write_whole

logger = logging.getLogger(__name__)

# Another reader finds other things in the same file: to be counted up with each change of it.
VERSION: Final = 2
MAX_BYTES: Final = 256 * 1024 * 1024

Identity = tuple[int, int, int]


class Opened(Struct, frozen=True):
    """How the `by` that loads models got on with the file: `kind` and `message` of its failure,
    or None."""

    by: str
    kind: str | None = None
    message: str = ""


class Entry(Struct, frozen=True):
    """verified: None until the file's bytes were compared with the digest in its name."""

    identity: Identity
    gguf: GgufFile
    verified: bool | None = None
    opened: Opened | None = None


class _Document(Struct, frozen=True):
    version: int
    files: dict[str, Entry]


class File(Struct, frozen=True):
    """A GGUF file on disk. `path` is as it was found, `real` without links."""

    path: Path
    real: str
    size: int
    modified: float
    gguf: GgufFile


class Index:
    """`path` None: in memory alone. `look` is for one thread at a time, the rest for any."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._used: set[str] = set()
        self._lock = Lock()
        self._saved: dict[str, Entry] = {}
        self._told = False
        if path is not None:
            self._entries = _read(path)
            self._saved = dict(self._entries)

    def look(self, path: Path, allowed: Iterable[str]) -> File | None:
        """The file at a path, or None where there is none. Nothing is opened that does not lie
        in one of the `allowed` folders, links followed."""
        try:
            real = os.path.realpath(path, strict=True)
            stat = os.stat(real)
        except FileNotFoundError:
            return None
        except OSError as error:
            return File(path, str(path), 0, 0.0, unreadable(error))
        return File(path, real, stat.st_size, stat.st_mtime, self._gguf(real, stat, allowed))

    def _gguf(self, real: str, stat: os.stat_result, allowed: Iterable[str]) -> GgufFile:
        if not within(real, allowed):
            text = "is a link that leads out of the directories that are served"
            return GgufFile(Problem("outside", text))
        if not modes.S_ISREG(stat.st_mode):
            return GgufFile(Problem("unreadable", "is not a file"))
        identity = identity_of(stat)
        entry = self._entries.get(real)
        if entry is None or entry.identity != identity:
            try:
                entry = Entry(identity, describe(Path(real)))
            except OSError as error:
                # Not kept: permissions leave no mark on a file.
                return unreadable(error)
            with self._lock:
                self._entries[real] = entry
        self._used.add(real)
        if entry.verified is False:
            return GgufFile(Problem("corrupt", f"sha256 mismatch {digest_in(real)}"))
        return entry.gguf

    def entry(self, real: str) -> Entry | None:
        """What is known of a file; None where it was not looked at, or has changed since."""
        entry = self._entries.get(real)
        try:
            return entry if entry and entry.identity == identity_of(os.stat(real)) else None
        except OSError:
            return None

    def remember(self, real: str, identity: Identity, **found: Any) -> None:
        """`found` are fields of its entry. Nothing is, where it has changed meanwhile."""
        with self._lock:
            entry = self._entries.get(real)
            if entry is not None and entry.identity == identity:
                self._entries[real] = msgspec.structs.replace(entry, **found)
        self.save()

    def forget_unused(self) -> None:
        """After a scan: what nobody looked at since the last time is gone."""
        with self._lock:
            self._entries = {real: self._entries[real] for real in self._used}
            self._used = set()

    def save(self) -> None:
        """Whole or not at all. An index that cannot be kept costs time at the next start only."""
        with self._lock:
            if self._path is None or self._entries == self._saved:
                return
            entries = dict(self._entries)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                document = msgspec.json.encode(_Document(VERSION, entries))
                write_whole(self._path, document, lasting=False)
            except OSError as error:
                if not self._told:
                    logger.warning("the index of models is not kept: %s", error.strerror)
                self._told = True
            self._saved = entries


def identity_of(stat: os.stat_result) -> Identity:
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def unreadable(error: OSError) -> GgufFile:
    return GgufFile(Problem("unreadable", f"cannot be read: {error.strerror}"))


def _read(path: Path) -> dict[str, Entry]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise msgspec.DecodeError("it is too large")
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        logger.info("the index of models is made anew: %s", error)
        return {}
    return document.files if document.version == VERSION else {}
