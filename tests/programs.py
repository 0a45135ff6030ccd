"""Programs of Debian's that tests run; without one a test is skipped, and in CI nothing may be."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest


def program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing: Debian's package {package} has it")
    return path


def promtool(*arguments: Any) -> str:
    return output(program("promtool", "prometheus"), *arguments)


def amtool(*arguments: Any) -> str:
    return output(program("amtool", "prometheus-alertmanager"), *arguments)


def output(*command: Any) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
