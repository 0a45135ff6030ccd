from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grafana.actions import Actions
from grafana.build import FOLDER, main, rendered
from grafana.links import PAGES
from tests.grafana.reading import DASHBOARDS


def actions_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.get("actions", []), *(a for v in value.values() for a in actions_of(v))]
    return [a for v in value for a in actions_of(v)] if isinstance(value, list) else []


def test_what_is_committed_is_what_is_built() -> None:
    built = rendered(Actions())

    assert built.keys() == set(PAGES.values()) == {path.stem for path in FOLDER.iterdir()}
    stale = [uid for uid, text in built.items() if (FOLDER / f"{uid}.json").read_text() != text]
    assert stale == [], "make dashboards writes them anew"


def test_there_is_no_button_that_nobody_asked_for() -> None:
    assert actions_of(list(DASHBOARDS.values())) == []


def test_buttons_ask_first_and_send_what_no_form_can(tmp_path: Path) -> None:
    main(["--output", str(tmp_path), "--actions", "http://gpu-box:11436/"])
    written = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}

    buttons = {uid: actions_of(dashboard) for uid, dashboard in written.items()}
    assert {uid for uid, found in buttons.items() if found} == {"llm-config", "llm-optimization"}
    for button in (button for found in buttons.values() for button in found):
        assert button["confirmation"].endswith(".")
        assert button["fetch"]["url"].startswith("http://gpu-box:11436/api/")
        assert ["X-Requested-With", "Grafana"] in button["fetch"]["headers"]
        assert json.loads(button["fetch"]["body"])


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_file_is_named_as_its_dashboard(uid: str) -> None:
    assert DASHBOARDS[uid]["uid"] == uid
