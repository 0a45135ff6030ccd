"""The files of the audit log: lines that each have the hash of the one before.

A line ends with the SHA-256 of all that stands before its `hash`, closed by a brace; `prev` is the
hash of the line before, also across files. A full file is renamed to `audit.log.1`, that one to
`.2` and so on, and the oldest goes: the chain then begins at what is left.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

logger = logging.getLogger(__name__)

NAME: Final = "audit.log"
MAX_BYTES: Final = 8 * 1024 * 1024
# Beside the file that is written.
KEPT_FILES: Final = 8
# `prev` of the first line of all.
NOTHING: Final = "0" * 64

_HASH: Final = re.compile(rb',"hash":"([0-9a-f]{64})"}')
_HASH_LENGTH: Final = len(b',"hash":"') + 64 + len(b'"}')
# A line is far shorter: what goes into it is bounded.
_TAIL_BYTES: Final = 256 * 1024

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Chain:
    """Belongs to one thread; other processes may append to the same files."""

    def __init__(self, folder: Path, most: int = MAX_BYTES) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._most = most
        # The hash of the last line, and the file that it ended: inode and size.
        self._last = NOTHING
        self._end: tuple[int, int] | None = None

    def append(self, entry: Mapping[str, Any]) -> str:
        """The line's hash. Raises OSError, and the files are then as they were."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder):
            self._catch_up()
            line, own = sealed(entry, self._last)
            if self._path.exists() and self._path.stat().st_size + len(line) > self._most:
                rotate(self._path)
            self._end = written(self._path, line)
            self._last = own
        return own

    def _catch_up(self) -> None:
        """Goes on from what others wrote since, and from what an earlier process left."""
        if self._end is not None and end_of(self._path) == self._end:
            return
        last = last_line(self._path)
        if last is None and (older := backups(self._path)):
            last = last_line(older[0])
        self._last = NOTHING if last is None else claimed_hash(last)


@dataclass(frozen=True)
class Verdict:
    """files: from the oldest. `last`: the hash that the chain ends with."""

    files: tuple[Path, ...]
    lines: int
    last: str
    problems: tuple[str, ...]


def verified(folder: Path) -> Verdict:
    """Reads all of it. Raises OSError."""
    files = tuple(chain_files(folder))
    problems, lines, last = [], 0, None
    for file in files:
        for number, line in numbered(file):
            where = f"{file.name} line {number}"
            lines += 1
            if (wrong := fault(line, last)) is not None:
                problems.append(f"{where} {wrong}")
            last = claimed_hash(line)
    return Verdict(files, lines, last or NOTHING, tuple(problems))


def fault(line: bytes, before: str | None) -> str | None:
    """What is wrong with a line behind the one with the hash `before`; None: the first of all."""
    match = _HASH.fullmatch(line[-_HASH_LENGTH:])
    if match is None:
        return "has no hash"
    body = line[:-_HASH_LENGTH] + b"}"
    if hashlib.sha256(body).hexdigest().encode() != match[1]:
        return "is not as it was written"
    try:
        prev = msgspec.json.decode(body)["prev"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return "is no entry"
    if before is not None and prev != before:
        return "does not follow on the line before it"
    return None


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines that can be read, oldest first. Raises OSError."""
    for file in chain_files(folder):
        for _, line in numbered(file):
            try:
                entry = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if isinstance(entry, dict):
                yield entry


def sealed(entry: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
    """The line, and its hash."""
    body = _encode({**entry, "prev": prev})
    own = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body[:-1], own.encode()), own


def claimed_hash(line: bytes) -> str:
    """The hash that a line says it has; of one that says none, its own, so that it can be followed."""
    match = _HASH.fullmatch(line[-_HASH_LENGTH:])
    return match[1].decode() if match else hashlib.sha256(line).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder itself is the lock: files are renamed under those who wait."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def written(path: Path, line: bytes) -> tuple[int, int]:
    """(inode, size) after it. Raises OSError, and the file is then as it was."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(file).st_size
        try:
            if os.write(file, line) != len(line):
                raise OSError("the disk took half a line")
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
        return os.fstat(file).st_ino, size + len(line)
    finally:
        os.close(file)


def end_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size


def last_line(path: Path) -> bytes | None:
    """Half a line, in which a process was killed, is cut off: nobody was told of it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(file).st_size
        start = max(0, size - _TAIL_BYTES)
        data = os.pread(file, size - start, start)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            logger.warning("%s ended within a line, which is cut off", path.name)
            os.ftruncate(file, start + whole)
        lines = data[:whole].splitlines()
        return lines[-1] if lines else None
    finally:
        os.close(file)


def rotate(path: Path) -> None:
    for number in range(KEPT_FILES, 0, -1):
        older = backup(path, number - 1) if number > 1 else path
        if older.exists():
            older.replace(backup(path, number))


def backup(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def backups(path: Path) -> Sequence[Path]:
    """The newest first."""
    numbered = (backup(path, number) for number in range(1, KEPT_FILES + 1))
    return [file for file in numbered if file.exists()]


def chain_files(folder: Path) -> list[Path]:
    """The oldest first."""
    path = folder / NAME
    return [*reversed(backups(path)), *([path] if path.exists() else [])]


def numbered(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield number, line.rstrip(b"\n")
