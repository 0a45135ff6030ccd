from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the service runs on; `tests/serving/test_runtime.py` runs on Python's own."""
    return "asyncio", {"use_uvloop": True}
