"""The one store that this service writes, in Ollama's layout, and atomically. Blocks.

    manifests/<host>/<namespace>/<model>/<tag>   written beside, then renamed into place
    blobs/sha256-<64 digits>                     named once their SHA-256 is known
    lock                                         held by the process that writes

A manifest is the last thing to be written and the first to go, so whoever reads finds whole models
at every moment. Blobs go with the last manifest that names them, unless an operation holds them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Final

from service.catalog.manifest import Damaged, Manifest, read_manifest
from service.catalog.names import DIGEST, Name, from_path
from service.store.blobs import INCOMING, Incoming, incoming
from service.whole_file import write_whole

logger = logging.getLogger(__name__)

PARTIAL: Final = "-partial"
DAY: Final = 24 * 3600.0
# As long as somebody may still want to go on with a download.
WEEK: Final = 7 * DAY
# Left to other programs, and to this one's logs.
SPARE_BYTES: Final = 64 * 1024 * 1024


class Busy(OSError):
    """Another process has the store."""


class Full(OSError):
    """There is less room than is needed; nothing was written."""


def plain(digest: str) -> str:
    """`sha256:<64 digits in lower case>`. Raises ValueError for what is no digest: this is the only
    way from a client's digest to a path."""
    if not DIGEST.fullmatch(digest):
        raise ValueError("invalid digest format")
    return f"sha256:{digest[7:].lower()}"


class OwnStore:
    """Made on disk by the first change."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.blobs = self.root / "blobs"
        self.manifests = self.root / "manifests"
        self._writing = RLock()
        self._lock: int | None = None
        self._held: Counter[str] = Counter()

    # Reading

    def blob(self, digest: str) -> Path:
        return self.blobs / plain(digest).replace(":", "-")

    def has(self, digest: str, size: int | None = None) -> bool:
        try:
            stat = self.blob(digest).stat()
        except FileNotFoundError:
            return False
        return size is None or stat.st_size == size

    def find(self, name: Name) -> Path | None:
        """The manifest; names are compared without regard to case."""
        place = self.manifests
        for part in name.path.split("/"):
            if (place / part).exists():
                place /= part
                continue
            try:
                same = [entry for entry in os.listdir(place) if entry.lower() == part.lower()]
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not same:
                return None
            place /= min(same)
        return place if place.is_file() else None

    def read(self, name: Name) -> bytes | None:
        path = self.find(name)
        return None if path is None else path.read_bytes()

    def names(self) -> Iterator[tuple[Name, Path]]:
        for path in sorted(self.manifests.glob("*/*/*/*")):
            if (name := from_path(path.relative_to(self.manifests).parts)) is not None:
                yield name, path

    # Writing. Each raises OSError, and leaves the store as it was.

    def open(self) -> None:
        """Takes the lock, and clears away what was left unfinished."""
        with self._writing:
            if self._lock is not None:
                return
            for folder in (self.blobs, self.manifests):
                folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                raise Busy(error.errno, "another process is writing to it") from None
            self._lock = handle
            for path in self.root.glob(f"{INCOMING}*"):
                path.unlink(missing_ok=True)
            self._sweep()

    def close(self) -> None:
        with self._writing:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def incoming(self) -> Incoming:
        self.open()
        return Incoming.anonymous(self.root)

    def partial(self, digest: str) -> Incoming:
        """With what an earlier attempt has got. One at a time for each digest."""
        self.open()
        path = self.blob(digest)
        return Incoming(path.with_name(path.name + PARTIAL), lasting=True)

    def room_for(self, size: int) -> None:
        """Raises Full."""
        self.open()
        free = shutil.disk_usage(self.root).free
        if size + SPARE_BYTES > free:
            raise Full(28, f"{size} bytes are needed, and {free} are free")

    @contextmanager
    def holding(self, digests: Iterable[str]) -> Iterator[None]:
        """Nothing removes these meanwhile, whether they are there yet or not."""
        held = [plain(digest) for digest in digests]
        with self._writing:
            self._held.update(held)
        try:
            yield
        finally:
            with self._writing:
                self._held.subtract(held)
                self._held += Counter()

    def write(self, name: Name, data: bytes, manifest: Manifest) -> None:
        """What the name meant before is gone then. Raises FileNotFoundError where a blob is not
        there, or not of its size."""
        self.open()
        with self._writing:
            for layer in manifest.everything:
                if not self.has(layer.digest, layer.size):
                    raise FileNotFoundError(2, f"{layer.digest[:19]} is missing")
            path = self.find(name) or self.manifests / name.path
            before = self._named_by(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, draft=incoming(self.root), mode=0o644)
            self._drop(before)

    def delete(self, name: Name) -> bool:
        """False where there is no such model."""
        self.open()
        with self._writing:
            path = self.find(name)
            if path is None:
                return False
            named = self._named_by(path)
            path.unlink()
            for folder in path.relative_to(self.manifests).parents[:-1]:
                with suppress(OSError):
                    (self.manifests / folder).rmdir()
            self._drop(named)
            self._sweep()
            return True

    def drop(self, digests: Iterable[str]) -> None:
        """Those of them that no manifest names and nobody holds."""
        with self._writing:
            self._drop({plain(digest) for digest in digests})

    def _named_by(self, path: Path) -> set[str]:
        try:
            manifest = read_manifest(path.read_bytes())
        except (FileNotFoundError, Damaged):
            return set()
        return {plain(layer.digest) for layer in manifest.everything}

    def _wanted(self) -> set[str] | None:
        """All digests that some manifest names; None where one cannot be read, and could name any."""
        wanted: set[str] = set()
        for _, path in self.names():
            try:
                manifest = read_manifest(path.read_bytes())
            except (OSError, Damaged) as error:
                logger.warning("no blob is removed while %s is damaged: %s", path, error)
                return None
            wanted.update(plain(layer.digest) for layer in manifest.everything)
        return wanted

    def _drop(self, digests: set[str]) -> None:
        wanted = self._wanted() if digests else None
        if wanted is not None:
            for digest in digests - wanted - self._held.keys():
                self.blob(digest).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Downloads that nobody has gone on with, and what was sent for a model never made."""
        now = time.time()
        old = set()
        for path in self.blobs.iterdir():
            name = path.name.removesuffix(PARTIAL)
            age = now - path.stat().st_mtime
            if not DIGEST.fullmatch(name):
                continue
            if path.name == name and age > DAY:
                old.add(plain(name))
            elif path.name != name and age > WEEK:
                path.unlink(missing_ok=True)
        self._drop(old)
