"""What the demo model's answers look like on the wire, held against the schemas."""

from __future__ import annotations

import json
from pathlib import Path

from tests.dialects.live import ASKED, Told, replies
from tests.dialects.wire_schemas import DIALECTS, answer_faults, error_faults, route
from tests.service_process import service


def wrong_with(told: Told) -> list[str]:
    asked = told.asked
    if told.status != asked.status:
        return [f"{told.status}: {told.content[:300]!r}"]
    if told.status >= 400:
        return error_faults(asked.dialect, json.loads(told.content))
    found = route(asked.dialect, asked.method, asked.path)
    assert found is not None, asked.path
    return answer_faults(found, told.media_type, told.content)


def test_every_live_answer_fits_its_schema(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        told = list(replies(running.url, ASKED))

    assert {each.asked.dialect for each in told} == set(DIALECTS)
    assert [(each.asked, wrong) for each in told if (wrong := wrong_with(each))] == []
