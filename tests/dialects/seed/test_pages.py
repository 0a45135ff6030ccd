from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from grafana.links import PAGES as DASHBOARDS
from service.app import create_app
from service.dialects.seed.pages import MOVED, PAGES
from service.settings import Settings, SettingsError
from service.settings_sources import load
from tests.dialects.fakes import FakeRuntime


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attributes if name in ("href", "src")]


def serving(**settings: Any) -> TestClient:
    app = create_app(Settings(exporters=False, **settings), FakeRuntime().make)
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.fixture
def http() -> Iterator[TestClient]:
    with serving() as client:
        yield client


def test_the_pages_are_the_dashboards_that_there_are() -> None:
    assert [uid for uid, _, _ in PAGES.values()] == list(DASHBOARDS.values())


@pytest.mark.parametrize("url", ["https://grafana.example/sub", "https://grafana.example/sub/"])
def test_a_page_leads_to_its_dashboard_where_grafana_is_known(url: str) -> None:
    with serving(grafana_url=url) as http:
        for path, (uid, _, _) in PAGES.items():
            answer = http.get(path)
            assert answer.status_code == 302
            assert answer.headers["location"] == f"https://grafana.example/sub/d/{uid}"


@pytest.mark.parametrize("path", PAGES)
def test_without_grafana_a_page_says_how_to_have_it(http: TestClient, path: str) -> None:
    answer = http.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "docker compose up" in answer.text
    assert "grafana_url" in answer.text
    links = Links()
    links.feed(answer.text)
    assert set(links.found) >= set(PAGES)
    assert all(http.get(link).status_code == 200 for link in links.found)


def test_a_page_needs_nothing_of_anybody(http: TestClient) -> None:
    answer = http.get("/dashboard?x=<script>alert(1)</script>")

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    links = Links()
    links.feed(answer.text)
    assert links.tags.isdisjoint({"script", "img", "link", "iframe", "form", "base"})
    assert all(link.startswith("/") for link in links.found)
    assert "alert(1)" not in answer.text


def test_what_is_elsewhere_now_says_where(http: TestClient) -> None:
    for path, to in MOVED.items():
        answer = http.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": f"moved to {to}"})
        found = re.fullmatch(r'<(.+)>; rel="successor-version"', answer.headers["link"])
        assert found is not None
        assert http.get(found[1]).status_code == 200


@pytest.mark.parametrize(
    "url", ["grafana:3000", "javascript:alert(1)", "http://u:p@host", "http://a b", "http://h?x=1"]
)
def test_an_address_that_no_browser_should_be_sent_to_is_refused_at_start(url: str) -> None:
    with pytest.raises(SettingsError, match="grafana_url"):
        load({"grafana_url": url})
