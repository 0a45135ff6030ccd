"""The keys in force: those of the file as it was last, or as it was when it was last right."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from service.access.keys import KeyFileError, Keys, parse

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
MAX_BYTES: Final = 1024 * 1024
# systemd's folder of what `LoadCredential=` names, which nobody else can enter.
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"

# Told of each attempt to read it anew: the keys before and after, and what was wrong.
OnReload = Callable[[Keys, Keys, str | None], None]


class KeyFile:
    """Belongs to one event loop. `keys` are replaced whole, never changed.

    Raises KeyFileError where the file cannot be used at start: nobody would be let in, and the
    operator would learn of it last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._signature = signature(path)
        self.keys = read(path)
        self.loaded = time.time()
        self.problem: str | None = None
        self._listeners: list[OnReload] = []

    def listen(self, listener: OnReload) -> None:
        self._listeners.append(listener)

    def reload(self) -> bool:
        """Whether the file is right. If it is not, the keys stay what they are."""
        before = self.keys
        self._signature = signature(self.path)
        try:
            self.keys = read(self.path)
        except KeyFileError as error:
            self.problem = str(error)
            logger.error("api_keys_file: the keys stay as they are: %s", error)
        else:
            self.problem = None
            self.loaded = time.time()
            logger.info("api_keys_file: %d keys", len(self.keys.all))
        for listener in self._listeners:
            listener(before, self.keys, self.problem)
        return self.problem is None

    async def watch(self) -> None:
        """Reads the file anew within about a second of a change, until it is cancelled. Not while it
        is still changing: an editor may have emptied it only to write it."""
        before = self._signature
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = signature(self.path)
            if now != self._signature and now == before:
                self.reload()
            before = now


def signature(path: Path) -> tuple[int, ...] | None:
    """What is different when the file is another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid


def read(path: Path) -> Keys:
    """Raises KeyFileError."""
    try:
        with path.open("rb") as file:
            check(os.fstat(file.fileno()), guarded(path))
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise KeyFileError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        return parse(text.decode())
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not text") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None


def guarded(path: Path) -> bool:
    """systemd shuts the folder instead: its files have modes and owners of their own."""
    folder = os.environ.get(CREDENTIALS)
    return bool(folder) and path.parent == Path(str(folder))


def check(status: os.stat_result, guarded: bool) -> None:
    """Who can read the digests learns who may do what; who can write them lets himself in."""
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError("it is no file")
    if guarded:
        return
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"others may read or write it (mode {mode:04o}): chmod 600 is needed")
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError("it belongs to another user")
