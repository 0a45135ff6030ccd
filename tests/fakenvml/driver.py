"""Compiles nvml.c, and says what it answers: a driver that tests can set while it is in use."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest

SOURCE = Path(__file__).with_name("nvml.c")
# As the dynamic linker looks for it.
LIBRARY = "libnvidia-ml.so.1"


def compiled(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is missing: cc")
    library = folder / LIBRARY
    subprocess.run(
        [compiler, "-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", *flags,
         f"-Wl,-soname,{LIBRARY}", "-o", library, SOURCE],
        check=True,
    )  # fmt: skip
    return library


class Driver:
    """The file that the library reads at each call, as a mapping of its lines."""

    def __init__(self, library: Path, control: Path) -> None:
        self.library = library
        self.control = control
        self.lines: dict[str, Any] = {}
        self._write()

    def say(self, **lines: Any) -> None:
        """`say(card1__lost=1)`: two underscores for a dot, `every` for all cards."""
        for key, value in lines.items():
            self["card*" + key[5:] if key.startswith("every") else key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self.lines[key.replace("__", ".")] = value
        self._write()

    def __delitem__(self, key: str) -> None:
        del self.lines[key]
        self._write()

    def clear(self) -> None:
        self.lines.clear()
        self._write()

    def environment(self) -> dict[str, str]:
        """For a process of its own."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.library.parent),
            "FAKE_NVML": str(self.control),
        }

    @contextmanager
    def in_this_process(self) -> Iterator[None]:
        """`pynvml` finds functions once: those of another library are forgotten, here and after."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FAKE_NVML", str(self.control))
            patch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(self.library)))
            patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
            yield
            # What hangs is let go.
            self.clear()

    def _write(self) -> None:
        whole = self.control.with_suffix(".new")
        whole.write_text("".join(f"{key} = {value}\n" for key, value in self.lines.items()))
        whole.replace(self.control)
