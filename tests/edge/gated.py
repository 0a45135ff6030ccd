"""The application behind its gate, with keys of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.key_files import put

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def client(
    folder: Path, *lines: str, runtime: FakeRuntime | None = None, **settings: Any
) -> Iterator[TestClient]:
    keys = put(folder / "keys", *lines) if lines else None
    made = Settings(state_dir=folder, api_keys_file=keys, exporters=False, **settings)
    app = create_app(made, (runtime or FakeRuntime()).make)
    with TestClient(app, base_url="http://localhost") as http:
        yield http
