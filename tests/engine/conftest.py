from __future__ import annotations

import pytest

from tests.engine.fake_model import LAYOUTS


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)
