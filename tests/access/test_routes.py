from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route

from service.access.caller import Scope
from service.access.routes import GROUPS, TABLE, Scopes, rows, scopes_for
from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def served(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """(method, path below its dialect's prefix) of all that the application answers."""
    for route in routes:
        if isinstance(route, Mount):
            yield from served(list(route.routes))
        else:
            assert isinstance(route, Route), f"{route} is no route whose scope could be told"
            for method in route.methods or ():
                yield method, route.path


def all_served(folder: Path) -> set[tuple[str, str]]:
    app = create_app(Settings(state_dir=folder), FakeRuntime().make)
    return set(served(app.routes))


def test_every_route_of_the_application_says_who_may_use_it(tmp_path: Path) -> None:
    without = sorted(key for key in all_served(tmp_path) if scopes_for(*key) is None)

    assert without == [], "service/access/routes.py has no row for these"


def test_every_row_has_a_route(tmp_path: Path) -> None:
    assert sorted(TABLE.keys() - all_served(tmp_path)) == []


def test_a_route_has_one_row() -> None:
    keys = [key for text, scopes in GROUPS for key, _ in rows(text, scopes)]

    assert sorted(keys) == sorted(set(keys))


def test_nothing_is_public_but_that_the_process_turns() -> None:
    assert [key for key, scopes in TABLE.items() if not scopes] == [("GET", "/health/live")]


def test_head_is_as_get_unless_it_has_a_row_of_its_own() -> None:
    assert (
        scopes_for("HEAD", "/metrics") == scopes_for("GET", "/metrics") == Scopes({Scope.METRICS})
    )
    assert scopes_for("HEAD", "/api/blobs/{digest}") == Scopes({Scope.ADMIN})
    assert scopes_for("GET", "/api/blobs/{digest}") is None
    assert scopes_for("HEAD", "/api/generate") is None
