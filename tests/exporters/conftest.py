from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakenvml.driver import Driver, compiled


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml-old"), "-DOLD_DRIVER")


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Iterator[Driver]:
    """Four Tesla M10 until it is told otherwise."""
    driver = Driver(library, tmp_path / "cards")
    with driver.in_this_process():
        yield driver


@pytest.fixture
def old_driver(old_library: Path, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(old_library, tmp_path / "cards")
    with driver.in_this_process():
        yield driver
