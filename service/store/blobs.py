"""Bytes that get their name once they are known to be what it says. Blocks: for worker threads.

    blobs/sha256-<64 digits>                   whole, and of that SHA-256
    blobs/sha256-<64 digits>-partial           the beginning of one, to be gone on with
    incoming-<random>                          of one whose digest is not known, or not believed, yet

A process that is killed leaves files of the last two kinds behind, which nobody takes for blobs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from service.whole_file import sync_folder

CHUNK: Final = 1024 * 1024
INCOMING: Final = "incoming-"


class Mismatch(Exception):
    """The bytes are not those of the digest that was promised."""


class Incoming:
    """A file being written, whose SHA-256 is counted along. Leaving the `with` without `keep`
    removes it; a `lasting` one only where the disk or its bytes were at fault."""

    def __init__(self, path: Path, *, lasting: bool = False) -> None:
        """What a `lasting` file has already, counts. Raises OSError."""
        self.path = path
        self.size = 0
        self._lasting = lasting
        self._hash = hashlib.sha256()
        self._kept = False
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            if not lasting:
                os.ftruncate(self._handle, 0)
            self.take_stock()
        except BaseException:
            os.close(self._handle)
            raise

    @classmethod
    def anonymous(cls, folder: Path) -> Self:
        return cls(incoming(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._handle)
        if not self._kept and (not self._lasting or isinstance(error, OSError | Mismatch)):
            self.path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        self._count(data)

    def take_stock(self) -> None:
        """Counts what somebody else has written behind what is known."""
        while piece := os.read(self._handle, CHUNK):
            self._count(piece)

    def restart(self) -> None:
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.ftruncate(self._handle, 0)
        self._hash, self.size = hashlib.sha256(), 0

    def keep(self, blobs: Path, digest: str | None = None) -> str:
        """Gives it its name, which is its digest; raises Mismatch where another was promised."""
        if digest is not None and digest != self.digest:
            raise Mismatch(f"digest mismatch: expected {digest}, got {self.digest}")
        os.fsync(self._handle)
        os.replace(self.path, blobs / self.digest.replace(":", "-"))
        self._kept = True
        sync_folder(blobs)
        return self.digest

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)


def incoming(folder: Path) -> Path:
    """A name of its own, for what has none yet."""
    return folder / f"{INCOMING}{secrets.token_hex(8)}"
