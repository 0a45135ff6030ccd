"""vLLM's own parameters, which the plain /v1 honours as well."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions_request import parse_completions
from service.errors import InvalidRequest
from service.generation import GenerationRequest, Thoughts, Truncation

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**body: Any) -> GenerationRequest:
    fields = Fields({"messages": MESSAGES, **body})
    return parse_chat(fields, id="r", arrived=0.0, endpoint="/v1/chat/completions")


def completion(**body: Any) -> GenerationRequest:
    (wanted,), _ = parse_completions(
        Fields({"prompt": "hi", **body}),
        id="r",
        arrived=0.0,
        endpoint="/v1/completions",
        default_max_tokens=16,
    )
    return wanted


@pytest.mark.parametrize("parse", [chat, completion])
@pytest.mark.parametrize(
    ("body", "truncation"),
    [
        ({}, None),
        ({"truncate_prompt_tokens": 5}, Truncation(5)),
        ({"truncate_prompt_tokens": -1}, Truncation(None)),
        (
            {"truncate_prompt_tokens": 5, "truncation_side": "right"},
            Truncation(5, side="right"),
        ),
    ],
)
def test_a_prompt_may_be_cut_where_the_client_says_so(
    parse: Any, body: dict[str, Any], truncation: Truncation | None
) -> None:
    assert parse(**body).truncation == truncation


@pytest.mark.parametrize("parse", [chat, completion])
def test_the_ids_of_tokens_are_asked_for_without_their_likelihood(parse: Any) -> None:
    sampling = parse(return_token_ids=True).sampling

    assert (sampling.token_ids, sampling.logprobs) == (True, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"top_k": -1}, {"top_k": 0}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"repetition_penalty": 1.2}, {"repeat_penalty": 1.2, "repeat_last_n": -1}),
        ({"stop_token_ids": [3]}, {"stop_token_ids": (3,)}),
        ({"include_stop_str_in_output": True}, {"include_stop": True}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
        ({"min_tokens": 2}, {"min_tokens": 2}),
        ({"skip_special_tokens": False}, {"skip_special_tokens": False}),
        ({"allowed_token_ids": [1, 2]}, {"allowed_token_ids": (1, 2)}),
        ({"prompt_logprobs": 2}, {"prompt_logprobs": 2}),
        ({"bad_words": ["x", "y z"]}, {"bad_words": ("x", "y z")}),
    ],
)
@pytest.mark.parametrize("parse", [chat, completion])
def test_each_name_sets_its_parameter(
    parse: Any, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    sampling = parse(**body).sampling

    assert {key: getattr(sampling, key) for key in expected} == expected


@pytest.mark.parametrize(
    "body",
    [
        {"guided_json": {"type": "object"}},
        {"structured_outputs": {"json": {"type": "object"}}},
        {"guided_regex": "[a-z]+"},
        {"structured_outputs": {"regex": "[a-z]+"}},
        {"guided_choice": ["a", "b"]},
        {"structured_outputs": {"choice": ["a", "b"]}},
        {"guided_grammar": 'root ::= "a"'},
        {"structured_outputs": {"grammar": 'root ::= "a"'}},
        {"structured_outputs": {"json_object": True}},
    ],
)
@pytest.mark.parametrize("parse", [chat, completion])
def test_constraints_are_honoured_under_their_new_names_and_their_old(
    parse: Any, body: dict[str, Any]
) -> None:
    assert parse(**body).response_format.kind != "text"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        ({"continue_final_message": "the end"}, "continue_final_message"),
        ({"add_generation_prompt": "no"}, "add_generation_prompt"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncation_side": "middle"}, "truncation_side"),
        ({"return_token_ids": 1}, "return_token_ids"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"bad_words": ["x", " "]}, "bad_words.1"),
        ({"bad_words": ["x" * 129]}, "bad_words.0"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"cache_salt": "x" * 129}, "cache_salt"),
        ({"priority": "high"}, "priority"),
        ({"priority": 2**70}, "priority"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        (
            {"structured_outputs": {"json": {}, "regex": "a"}},
            "structured_outputs.regex",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**body)

    assert caught.value.param == param


@pytest.mark.parametrize("parse", [chat, completion])
def test_a_requests_place_and_whom_it_shares_with(parse: Any) -> None:
    wanted = parse(cache_salt="tenant", priority=-3)

    assert (wanted.cache_salt, wanted.priority) == ("tenant", -3)
    assert (parse().cache_salt, parse().priority) == ("", 0)


@pytest.mark.parametrize(
    "name", ["thinking_token_budget", "reasoning_budget_tokens", "thinking_budget_tokens"]
)
def test_a_budget_of_thoughts_is_for_chats_and_not_for_raw_prompts(name: str) -> None:
    assert chat(**{name: 64}).sampling.thoughts == Thoughts(64)
    assert chat(**{name: 0}).sampling.thoughts == Thoughts(0)
    assert chat(**{name: -1}).sampling.thoughts is None
    fields = Fields({"prompt": "hi", name: 64})
    parse_completions(fields, id="r", arrived=0.0, endpoint="/", default_max_tokens=16)
    assert fields.unread() == [name]
