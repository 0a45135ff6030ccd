"""Who may ask from within a browser for what changes models."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

FOREIGN = "https://elsewhere.example"
PATHS = (
    "/models/load",
    "/models/unload",
    "/api/models/unload",
    "/api/models/unload/demo",
    "/lora-adapters",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
)


def post(runtime: FakeRuntime, path: str, origin: str | None, **settings: tuple[str, ...]) -> int:
    made = create_app(Settings(cors_origins=settings.get("cors_origins", ())), runtime.make)
    headers = {} if origin is None else {"Origin": origin}
    with TestClient(made, base_url="http://localhost") as http:
        return http.post(path, json={"model": "demo"}, headers=headers).status_code


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_another_origin_changes_no_model(path: str) -> None:
    runtime = FakeRuntime()

    assert post(runtime, path, FOREIGN) == 403
    assert post(runtime, path, "null") == 403
    assert (runtime.loads, runtime.unloads) == ([], [])


@pytest.mark.parametrize("origin", [None, "http://localhost", FOREIGN])
def test_programs_own_pages_and_those_the_operator_trusts_may(origin: str | None) -> None:
    runtime = FakeRuntime()

    assert post(runtime, "/models/unload", origin, cors_origins=(FOREIGN,)) == 200
    assert runtime.unloads == ["demo"]
