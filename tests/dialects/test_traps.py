"""Thirty-three things that clients of these interfaces are known to trip over, and the tests that
hold each of them. What is named here has to be there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

TESTS: Final = Path(__file__).parents[1]
STREAMS: Final = "dialects/test_traps_of_streams.py::"
OLLAMA: Final = "dialects/ollama/test_traps.py::"
SHAPE_OF_A_STREAM: Final = (
    STREAMS + "test_a_chats_stream_has_one_role_an_empty_last_delta_and_no_empty_calls"
)

TRAPS: Final[dict[str, list[str]]] = {
    "role once for each choice": [SHAPE_OF_A_STREAM],
    "no empty tool_calls": [SHAPE_OF_A_STREAM],
    "the last delta is {}": [SHAPE_OF_A_STREAM],
    "the usage chunk has no choices": [SHAPE_OF_A_STREAM],
    "exactly `data: `, and [DONE]": [
        "dialects/test_wire_schemas.py::test_the_framing_of_a_stream_counts",
        "dialects/test_golden.py::test_a_transcript_fits_its_schema",
    ],
    "embeddings as base64": [
        "dialects/test_official_client.py::test_embeddings_are_numbers_again_after_their_way_as_base64"
    ],
    "NDJSON without blank lines, done: true last": [
        OLLAMA + "test_no_line_is_blank_and_the_last_is_done"
    ],
    "arguments are an object for Ollama, a string for OpenAI": [
        OLLAMA + "test_a_call_comes_whole_with_an_object",
        "dialects/test_golden.py::test_a_transcript_fits_its_schema",
    ],
    "message.role in all of Ollama's chunks": [
        OLLAMA + "test_the_official_client_finds_all_that_it_looks_for"
    ],
    "model_info with general.architecture": [
        "test_ollama_client.py::test_models_are_listed_and_shown",
        "dialects/test_live_schemas.py::test_every_live_answer_fits_its_schema",
    ],
    "a version of numbers": [
        "dialects/ollama/test_models.py::test_the_version_is_one_that_clients_can_compare"
    ],
    "JSON that calls itself a form": [
        "dialects/test_body.py::test_the_content_type_does_not_matter"
    ],
    "POST / answers with an array": [
        "dialects/tgi/test_routes.py::test_the_hosted_apis_paths_answer_with_an_array"
    ],
    "TGI keeps the stop string": [
        "dialects/tgi/test_client.py::test_the_stop_string_stays_in_the_text"
    ],
    "top_p 1.0 for TGI": ["dialects/tgi/test_request.py::test_each_parameter_is_honoured"],
    "the models `dummy` and `tgi`": [
        "test_tgi_and_vllm.py::test_words_for_no_model_mean_the_one_that_is_here"
    ],
    "response_format with a value": [
        "dialects/test_formats.py::test_every_clients_way_to_ask_for_a_shape_is_understood",
        "dialects/tgi/test_openai_routes.py::test_the_hubs_word_for_a_schema_is_understood",
    ],
    "/v1/models/a%2Fb:c": [
        "dialects/openai/test_routes.py::test_a_model_is_found_by_a_name_with_slashes_and_colons"
    ],
    "nanoseconds": [OLLAMA + "test_durations_are_nanoseconds_and_none_is_nothing"],
    "streamed by default for Ollama alone": [
        "dialects/test_traps.py::test_ollama_alone_streams_unless_told_otherwise"
    ],
    "hanging up frees the slot": [
        OLLAMA + "test_hanging_up_frees_the_place_at_each_stage",
        "dialects/test_respond.py::test_hanging_up_cancels",
    ],
    "an error before the first byte has a status": [
        "dialects/test_respond.py::test_what_admission_refuses_has_a_status_line",
        "dialects/ollama/test_failures.py::test_what_fails_before_the_first_word_has_a_status_too",
    ],
    "the code and sentence of a prompt that is too long": [
        "dialects/test_respond.py::test_a_prompt_that_is_too_long_is_told_in_the_sentence_that_agents_match"
    ],
    "keep_alive 0, -1, 5m and -1 as text": [
        "dialects/ollama/test_durations.py::test_each_way_to_say_how_long_is_understood"
    ],
    "a load is answered with JSON": [
        "dialects/ollama/test_models.py::test_an_empty_prompt_loads_the_model_or_unloads_it"
    ],
    "indices of several answers to several prompts": [
        "dialects/test_official_client.py::test_completions_of_several_prompts"
    ],
    "a stop string between tokens": [
        STREAMS + "test_a_stop_string_between_tokens_is_never_let_out"
    ],
    "an emoji between tokens": [STREAMS + "test_a_character_between_tokens_is_in_one_frame"],
    "a think tag between tokens": [STREAMS + "test_a_tag_between_tokens_is_in_no_text"],
    "HEAD, and DELETE with a body": [OLLAMA + "test_delete_with_a_body_and_head_are_understood"],
    "a call that cannot be read is content": [
        STREAMS + "test_a_call_that_cannot_be_read_is_text_and_no_error"
    ],
    "guided_json is honoured": [
        "test_tgi_and_vllm.py::test_a_constraint_holds_under_its_old_name_and_its_new",
        "dialects/test_formats.py::test_every_clients_way_to_ask_for_a_shape_is_understood",
    ],
    "both names of thoughts": [STREAMS + "test_thoughts_have_both_names_in_a_chat"],
}


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_has_its_test(trap: str) -> None:
    assert TRAPS[trap]
    for name in TRAPS[trap]:
        file, _, function = name.partition("::")
        assert function in functions_in(file), name


@pytest.mark.parametrize(
    ("path", "body", "streams"),
    [
        ("/api/chat", {"model": "demo", "messages": [{"role": "user", "content": "x"}]}, True),
        ("/api/generate", {"model": "demo", "prompt": "x"}, True),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, False),
        ("/v1/completions", {"prompt": "x"}, False),
        ("/v1/responses", {"input": "x"}, False),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4}, False),
        ("/completion", {"prompt": "x"}, False),
        ("/", {"inputs": "x"}, False),
    ],
)
def test_ollama_alone_streams_unless_told_otherwise(
    path: str, body: dict[str, Any], streams: bool
) -> None:
    app = create_app(Settings(), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as http:
        kind = http.post(path, json=body).headers["content-type"].partition(";")[0]

    assert kind == ("application/x-ndjson" if streams else "application/json")
