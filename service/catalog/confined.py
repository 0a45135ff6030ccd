"""Reading below a folder and nowhere else, and no more than is wanted."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Iterable


def within(real: str, folders: Iterable[str]) -> bool:
    """Both without links in them."""
    return any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def beginning(path: str, most: int) -> bytes:
    """The first `most` bytes of a file. Raises OSError, also for what is no file."""
    # A pipe would keep the scan waiting for somebody to write.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not modes.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return file.read(most)
