"""A file that others may write, replace or take away at any time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class FollowedFile:
    """`path` tells where it is at the moment; None: nowhere. Looks at the disk, so it blocks."""

    def __init__(self, path: Callable[[], Path | None]) -> None:
        self._path = path
        self._seen = self._identity()

    def look(self) -> None:
        """What is there now is known."""
        self._seen = self._identity()

    def changed(self) -> bool:
        """Since it was last looked at."""
        return self._identity() != self._seen

    def _identity(self) -> tuple[int, int, int] | None:
        """None where there is no file."""
        try:
            stat = os.stat(self._path() or "")
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
