"""What comes back of a prompt that is too long."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import ContextOverflow, ServiceError
from service.generation import GenerationRequest
from tests.dialects.fakes import FakeRuntime, Script, says
from tests.dialects.ollama.http import CHAT, GENERATE, lines, post, whole


def too_long(request: GenerationRequest) -> Script | ServiceError:
    if request.truncation is None:
        return ContextOverflow(3000, 2048, None)
    return says("ok")


def test_a_prompt_that_is_too_long_is_cut_and_the_answer_says_so() -> None:
    runtime = FakeRuntime(script=too_long)
    response = post("/api/generate", {**GENERATE, "options": {"num_keep": 10}}, runtime)

    assert response.headers["x-prompt-truncated"] == "2993"
    last = lines(response)[-1]
    assert (last["prompt_truncated"], last["prompt_original_count"]) == (True, 3000)
    cut = runtime.requests[1].truncation
    assert cut is not None
    assert (cut.limit, cut.keep, cut.side) == (1536, 10, "left")


@pytest.mark.parametrize(
    ("body", "settings", "limit"),
    [({"truncate": True}, {}, 1026), ({}, {"ollama_truncate": "ollama"}, 1026), ({}, {}, 1536)],
)
def test_half_of_it_goes_where_that_is_wanted(
    body: dict[str, Any], settings: dict[str, Any], limit: int
) -> None:
    runtime = FakeRuntime(script=too_long)
    whole("/api/chat", {**CHAT, **body}, runtime, **settings)
    cut = runtime.requests[1].truncation

    assert cut is not None
    assert cut.limit == limit


def test_a_prompt_that_must_not_be_cut_is_refused() -> None:
    runtime = FakeRuntime(script=too_long)
    response = post("/api/chat", {**CHAT, "truncate": False}, runtime)

    assert response.status_code == 400
    assert response.json() == {"error": "the input length exceeds the context length"}
    assert not runtime.requests[0].drop_messages


def test_a_prompt_that_fits_is_not_touched() -> None:
    response = post("/api/chat", {**CHAT, "truncate": True})

    assert "x-prompt-truncated" not in response.headers
    assert "prompt_truncated" not in lines(response)[-1]
