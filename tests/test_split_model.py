"""A model in several files, on the real engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from service.catalog import demo
from tests.service_process import service
from tests.split_model import split

ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is 7 plus 5?"}],
    "temperature": 0,
    "max_tokens": 40,
}


def test_shards_answer_as_the_whole_does_and_a_missing_one_is_named(tmp_path: Path) -> None:
    split(demo.PATH, tmp_path, "parts", 3)
    split(demo.PATH, tmp_path, "broken", 3)[1].unlink()

    with service(tmp_path) as running, httpx.Client(base_url=running.url, timeout=60) as http:
        whole, parts, refused = (
            http.post("/v1/chat/completions", json={"model": name, **ASKED})
            for name in ("demo", "parts", "broken")
        )

    assert (whole.status_code, parts.status_code) == (200, 200), whole.text + parts.text
    said = [answer.json()["choices"][0]["message"] for answer in (whole, parts)]
    assert said[0] == said[1]
    assert "12" in said[0]["content"]
    assert refused.status_code in (404, 422)
    assert "shard 2 of 3 is missing" in refused.text
