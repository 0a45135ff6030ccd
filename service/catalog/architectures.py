"""Which architectures the llama.cpp that is installed knows, without loading it.

It has no function that says so, and loading it into this process is out of the question. But its
table of names is text in the library: a name that is not there, with the zero that ends it, is one
that it does not know. A linker may let a name share the end of a longer text, so one that is there
may still be unknown; then the load says so.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

NAMES: Final = ("libllama.so", "libllama.dylib", "llama.dll")


class Architectures:
    """`known` is True where nothing speaks against it: also where there is no library to ask."""

    def __init__(self, library: Path | None = None) -> None:
        self._library = library
        self._identity: tuple[int, int, int] | None = None
        self._known: dict[str, bool] = {}

    def known(self, architecture: str) -> bool:
        if self._library is None:
            return True
        try:
            stat = self._library.stat()
            identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if identity != self._identity:
                self._known, self._identity = {}, identity
            if architecture not in self._known:
                text = self._library.read_bytes()
                self._known[architecture] = architecture.encode() + b"\0" in text
        except OSError:
            return True
        return self._known[architecture]


def installed() -> Path | None:
    """The library that an engine will load: where the binding looks for it."""
    named = os.environ.get("LLAMA_CPP_LIB_PATH")
    # Of a package at the top, this reads no code of its own.
    spec = None if named else importlib.util.find_spec("llama_cpp")
    folders = [named] if named else list((spec and spec.submodule_search_locations) or ())
    for folder in folders:
        for name in NAMES:
            path = Path(folder, name) if named else Path(folder, "lib", name)
            if path.is_file():
                return path
    return None
