"""The pictures of the dashboards that the documents show, and what they are drawn from."""

from __future__ import annotations

import json
import re
import struct
from itertools import combinations
from pathlib import Path

import pytest

from tests.grafana.reading import DASHBOARDS
from tools.pictures.heat import CARDS, said
from tools.pictures.layout import CELL, GAP, WIDTH, in_pixels, page_height, placed

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
COMPONENTS = ROOT / "tools" / "pictures" / "components"


def size(picture: Path) -> tuple[int, int]:
    """Width and height, of a PNG's first chunk."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_each_dashboard_has_a_picture_that_the_documents_show(uid: str) -> None:
    picture = PICTURES / f"{uid}.png"

    assert size(picture)[0] == WIDTH
    assert picture.stat().st_size < 400 << 10
    assert f"](pictures/{uid}.png)" in (ROOT / "docs/dashboards.md").read_text()


def test_no_picture_is_of_a_dashboard_that_there_is_not() -> None:
    assert {path.stem for path in PICTURES.iterdir()} == DASHBOARDS.keys()


def test_whoever_looks_is_told_that_they_are_not_of_grafana_itself() -> None:
    for page in ("README.md", "docs/dashboards.md"):
        text = re.sub(r"\s+", " ", (ROOT / page).read_text())
        assert "pictures/llm-overview.png)" in text
        assert "not a screenshot of Grafana" in text


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panels_stand_side_by_side_on_the_page(uid: str) -> None:
    repeated = {"gpu": ["0", "1", "2"], "api": ["ollama", "openai"]}
    panels = list(placed(DASHBOARDS[uid]["panels"], repeated))
    places = [in_pixels(panel) for panel in panels]

    for place in places:
        assert 0 <= place["left"] < place["left"] + place["width"] <= WIDTH
        assert 0 <= place["top"] < place["top"] + place["height"] <= page_height(panels)
    for one, other in combinations(places, 2):
        beside = (
            one["left"] + one["width"] <= other["left"]
            or other["left"] + other["width"] <= one["left"]
        )
        below = (
            one["top"] + one["height"] <= other["top"]
            or other["top"] + other["height"] <= one["top"]
        )
        assert beside or below


def test_a_repeated_row_stands_once_for_each_value_and_moves_what_is_below() -> None:
    def panel(kind: str, y: int, h: int, title: str, **more: object) -> dict[str, object]:
        return {"type": kind, "gridPos": {"x": 0, "y": y, "w": 24, "h": h}, "title": title, **more}

    panels = [
        panel("row", 0, 1, "GPU $gpu", repeat="gpu"),
        panel("stat", 1, 4, "Fan"),
        panel("row", 5, 1, "Closed", collapsed=True, panels=[panel("stat", 6, 4, "Hidden")]),
    ]
    found = list(placed(panels, {"gpu": ["0", "1"]}))

    assert [(p["title"], p["gridPos"]["y"], p["scope"]) for p in found] == [
        ("GPU 0", 0, {"gpu": "0"}),
        ("Fan", 1, {"gpu": "0"}),
        ("GPU 1", 5, {"gpu": "1"}),
        ("Fan", 6, {"gpu": "1"}),
        ("Closed", 10, {}),
    ]
    assert in_pixels(found[1])["height"] == 4 * (CELL + GAP) - GAP


def test_cards_warm_up_and_the_hottest_alone_is_throttled() -> None:
    cold = [said(card, 0) for card in range(len(CARDS))]
    hot = [said(card, 280) for card in range(len(CARDS))]

    assert all(
        late["temperature"] > early["temperature"] for late, early in zip(hot, cold, strict=True)
    )
    assert [card["throttle"] != 0 for card in hot] == [False, False, True, False]
    assert all(
        card["power_mw"] < 1000 * of.limit_watts for card, of in zip(hot, CARDS, strict=True)
    )


def test_the_lock_of_the_components_has_a_hash_of_everything_and_no_address() -> None:
    lock = (COMPONENTS / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    wanted = json.loads((COMPONENTS / "package.json").read_text())["dependencies"]

    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []
    assert '"resolved"' not in lock
    assert [version for version in wanted.values() if not version[0].isdigit()] == []
