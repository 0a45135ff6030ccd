"""Whether a model's files are what their names say: blobs are named by their SHA-256.

A copy that broke off is found by its size; one with zeros in it only this way. At 2 GB/s it takes
its time, so it is done once for each file, before its first load.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from service.catalog.card import ModelCard, Problem
from service.catalog.index import Index, identity_of
from service.catalog.names import digest_in


def verify(
    card: ModelCard, index: Index, stopped: Callable[[], bool] = lambda: False
) -> Problem | None:
    """What is wrong, or None: nothing is, or no name tells. Blocks; `stopped` ends it early.

    The index remembers either answer for as long as the file stays as it is.
    """
    for path in card.files:
        real = os.path.realpath(path)
        expected = digest_in(real)
        if expected is None:
            continue
        entry = index.entry(real)
        known = entry.verified if entry else None
        if known is None:
            try:
                known = _matches(real, expected, index, stopped)
            except OSError as error:
                return Problem("unreadable", f"cannot be read: {error.strerror}")
        if not known:
            return mismatch(expected)
    return None


def mismatch(expected: str) -> Problem:
    return Problem("corrupt", f"sha256 mismatch {expected}")


def _matches(real: str, expected: str, index: Index, stopped: Callable[[], bool]) -> bool:
    digest = hashlib.sha256()
    with open(real, "rb", buffering=0) as file:
        identity = identity_of(os.fstat(file.fileno()))
        chunk = memoryview(bytearray(4 * 1024 * 1024))
        while count := file.readinto(chunk):
            digest.update(chunk[:count])
            if stopped():
                return True
    matches = digest.hexdigest() == expected
    index.remember(real, identity, verified=matches)
    return matches
