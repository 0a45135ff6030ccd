"""Files that are replaced whole: a reader sees what was there before, or all of it. Blocks."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(
    path: Path, data: bytes, *, draft: Path | None = None, mode: int = 0o600, lasting: bool = True
) -> None:
    """`draft`: where it is written first, on the same disk; beside it and hidden if not said.
    lasting: it outlives a loss of power, for which the disk is waited for.

    Raises OSError, and then leaves nothing.
    """
    draft = draft or path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(handle)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if lasting:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """So that a name outlives a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
