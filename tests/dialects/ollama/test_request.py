from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.dialects.fields import Fields
from service.dialects.ollama.prompt import Prompt, parse_prompt
from service.dialects.ollama.request import Asked, parse_asked, parse_model
from service.dialects.ollama.thinking import Thinking, decide
from service.errors import InvalidRequest
from service.generation import Chat, Infill, Message, ResponseFormat, Text
from tests.dialects.fakes import CARD


def parse(**body: Any) -> Asked:
    return parse_asked(Fields({"model": "m", **body}))


def refused(**body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    return caught.value


def test_only_ollama_streams_unless_told_not_to() -> None:
    assert parse().stream
    assert parse(stream=None).stream
    assert not parse(stream=False).stream


@pytest.mark.parametrize(
    "name",
    ["llama3.2", "llama3.2:1b", "hf.co/user/repo:Q4_K_M", "user/name:tag", "/models/a b/x.gguf"],
)
def test_names_and_paths_are_taken(name: str) -> None:
    assert parse(model=name).model == name


@pytest.mark.parametrize("name", [":", "a:", ":b", "a//b", "a::b", "x\ny", " ", "a: ", "x" * 513])
def test_a_name_that_is_none_is_refused_in_ollamas_words(name: str) -> None:
    assert refused(model=name).message == "invalid model name"


def test_an_older_field_may_have_the_name() -> None:
    assert parse_model(Fields({"name": "m"}), "name") == "m"
    assert parse_model(Fields({"model": "", "name": "m"}), "name") == "m"
    assert parse_model(Fields({}), "name") == ""


@pytest.mark.parametrize(
    ("body", "logprobs"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 5}, 5),
     ({"logprobs": False, "top_logprobs": 5}, None)],
)  # fmt: skip
def test_alternatives_are_shown_where_log_probabilities_are(
    body: dict[str, Any], logprobs: int | None
) -> None:
    asked = parse(**body)

    assert asked.options.sampling.logprobs == logprobs
    assert asked.ignored == (("top_logprobs",) if body.get("logprobs") is False else ())


@pytest.mark.parametrize("count", [-1, 21, 10**9])
def test_more_than_twenty_alternatives_are_refused_in_ollamas_words(count: int) -> None:
    error = refused(logprobs=True, top_logprobs=count)

    assert error.message == "top_logprobs must be between 0 and 20"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, ResponseFormat()),
        ("", ResponseFormat()),
        ("json", ResponseFormat("json", param="format")),
        (SCHEMA, ResponseFormat("schema", schema=SCHEMA, param="format")),
    ],
)
def test_a_format_is_json_or_a_schema(value: Any, shape: ResponseFormat) -> None:
    assert parse(format=value).format == shape


@pytest.mark.parametrize("value", ["xml", 1, True, [], '{"type":"object"}'])
def test_another_format_is_refused_in_ollamas_words(value: Any) -> None:
    shown = msgspec.json.encode(value).decode()

    assert refused(format=value).message == (
        f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    )


@pytest.mark.parametrize("think", [None, True, False, "low", "medium", "high", "max"])
def test_each_state_of_think_is_taken(think: Any) -> None:
    assert parse(think=think).think == think


@pytest.mark.parametrize("think", ["", "hard", 1, [], {}])
def test_another_think_is_refused(think: Any) -> None:
    assert refused(think=think).param == "think"


def test_a_shift_that_is_asked_for_is_reported() -> None:
    assert parse(shift=True).ignored == ("shift",)
    assert parse(shift=False).ignored == parse().ignored == ()


# ---- think


@pytest.mark.parametrize(
    ("think", "preserve", "thinking"),
    [
        (None, True, Thinking(enable=True, inline=True)),
        (None, False, Thinking(enable=True)),
        (True, True, Thinking(enable=True)),
        (True, False, Thinking(enable=True)),
        ("low", True, Thinking(enable=True, effort="low")),
        ("max", True, Thinking(enable=True, effort="max")),
        (False, True, Thinking(enable=False, inline=True)),
        (False, False, Thinking(enable=False, inline=True)),
    ],
)
def test_a_thinking_model_thinks_as_it_is_told(
    think: Any, preserve: bool, thinking: Thinking
) -> None:
    assert decide(think, "m", CARD, True, preserve) == thinking


def test_gpt_oss_knows_nothing_above_high() -> None:
    card = msgspec.structs.replace(CARD, architecture="gpt-oss")

    assert decide("max", "m", card, True, True).effort == "high"


@pytest.mark.parametrize("think", [True, "low"])
def test_a_model_that_cannot_think_is_not_told_to(think: Any) -> None:
    with pytest.raises(InvalidRequest, match='^"m" does not support thinking$'):
        decide(think, "m", CARD, False, True)


@pytest.mark.parametrize("think", [None, False])
def test_a_model_that_cannot_think_is_told_nothing(think: Any) -> None:
    assert decide(think, "m", CARD, False, True).enable is None


# ---- the prompt of /api/generate


def prompt(**body: Any) -> Prompt:
    return parse_prompt(Fields(body))


@pytest.mark.parametrize(
    ("body", "input"),
    [
        ({"prompt": "x", "raw": True}, Text("x")),
        ({"prompt": "x", "suffix": "y"}, Infill("x", "y")),
        ({"prompt": "x", "template": "[{{ .Prompt }}{{ .Suffix }}]", "suffix": "y"}, Text("[xy]")),
        ({"prompt": "x", "system": "s", "template": "{{ .System }}|{{ .Prompt }}"}, Text("s|x")),
    ],
)
def test_a_prompt_stands_as_its_fields_say(body: dict[str, Any], input: Any) -> None:
    assert prompt(**body).input(Thinking()) == input


def test_a_prompt_alone_is_a_chat_of_one_turn() -> None:
    chat = prompt(prompt="x", system="s").input(Thinking(enable=True, effort="low"))

    assert isinstance(chat, Chat)
    assert chat.messages == (Message("system", "s"), Message("user", "x"))
    assert (chat.enable_thinking, chat.reasoning_effort) == (True, "low")


@pytest.mark.parametrize("other", [{"template": "x"}, {"system": "x"}, {"context": [1]}])
def test_raw_text_has_nothing_around_it(other: dict[str, Any]) -> None:
    words = "^raw mode does not support template, system, or context$"
    with pytest.raises(InvalidRequest, match=words):
        prompt(prompt="x", raw=True, **other)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"context": [-1]}, "context.0"),
        ({"context": ["1"]}, "context.0"),
        ({"context": "x"}, "context"),
        ({"images": ["aGk="]}, "images"),
        ({"prompt": ["x"]}, "prompt"),
        ({"suffix": 1}, "suffix"),
        ({"raw": "yes"}, "raw"),
    ],
)
def test_a_wrong_prompt_is_refused_by_the_name_of_its_field(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prompt(**body)

    assert caught.value.param == param
