"""What an engine wrote to stderr before it died, and what kind of death that was."""

from __future__ import annotations

import logging
import re
import signal
from typing import Final

logger = logging.getLogger(__name__)

KEPT_BYTES: Final = 8 * 1024
# One line can be a whole template; a log is no place for it.
LINE_BYTES: Final = 2000

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# First match wins. The phrases are llama.cpp's, CUDA's, libstdc++'s and Python's.
_KINDS: Final = (
    ("out of memory", "out of memory"),
    ("cudaMalloc failed", "out of memory"),
    ("failed to allocate", "out of memory"),
    ("unable to allocate", "out of memory"),
    ("std::bad_alloc", "out of memory"),
    ("MemoryError", "out of memory"),
    ("CUDA error", "GPU error"),
    ("ROCm error", "GPU error"),
    ("GGML_ASSERT", "assertion failed"),
    ("ggml_abort", "assertion failed"),
    ("terminate called", "C++ exception"),
    ("Traceback (most recent call last)", "Python exception"),
)


class LastWords:
    """Bytes of stderr as they come: each line logged at debug, the last 8 KiB kept."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._tail = bytearray()
        self._line = bytearray()

    def feed(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-KEPT_BYTES]
        self._line += data
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._log(line)
        self._line = rest[-LINE_BYTES:]

    def __str__(self) -> str:
        return " | ".join(clean(line) for line in self._tail.split(b"\n") if line)

    def kind(self) -> str | None:
        text = self._tail.decode("utf-8", "replace").lower()
        return next((kind for phrase, kind in _KINDS if phrase.lower() in text), None)

    def _log(self, line: bytes | bytearray) -> None:
        if logger.isEnabledFor(logging.DEBUG) and line:
            logger.debug("%s: %s", self._model, clean(line))


def clean(line: bytes | bytearray) -> str:
    """Fit for a log: an engine prints names and templates that strangers wrote."""
    text = bytes(line[:LINE_BYTES]).decode("utf-8", "replace")
    return _CONTROL.sub(" ", _ESCAPES.sub("", text))


def exit_words(returncode: int | None) -> str:
    if returncode is None:
        return "did not exit"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
