from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dialects.fields import Fields
from service.dialects.llama_server.request import (
    Options,
    Prompt,
    parse_completion,
    parse_infill,
    parse_prompts,
    skip_idle,
)
from service.errors import InvalidRequest
from service.generation import AdapterChoice, GenerationRequest, SamplingParams


def parse(**body: Any) -> tuple[GenerationRequest, Options, list[str]]:
    """And what nobody read."""
    fields = Fields({"prompt": "hi", **body})
    request, options = parse_completion(
        fields, parse_prompts(fields), id="1", arrived=0.0, endpoint="/completion"
    )
    skip_idle(fields)
    return request, options, fields.unread()


def test_a_stream_tells_its_tokens_unasked() -> None:
    assert parse(stream=True)[1].return_tokens
    assert not parse()[1].return_tokens


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ({"prompt_string": "a"}, [("a",)]),
        (["a", {"prompt_string": "b", "multimodal_data": []}], [("a",), ("b",)]),
        ("a", [("a",)]),
        ([1, 2], [((1, 2),)]),
        ([1, "a", 2, 3], [((1,), "a", (2, 3))]),
        (["a", 1], [("a", (1,))]),
        (["a", "b"], [("a",), ("b",)]),
        ([[1, 2], "a", ["b", 3]], [((1, 2),), ("a",), ("b", (3,))]),
    ],
)
def test_each_form_of_prompt_is_read(prompt: Any, prompts: list[Prompt]) -> None:
    assert list(parse_prompts(Fields({"prompt": prompt}))) == prompts


def test_where_nothing_is_said_it_samples_as_llama_server_does() -> None:
    request, options, unread = parse()

    assert request.sampling == SamplingParams(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_last_n=64
    )
    assert options == Options((("hi",),))
    assert unread == []


def test_the_parameters_arrive() -> None:
    request, options, unread = parse(
        n_predict=5,
        temperature=0.5,
        top_k=0,
        seed=7,
        stop=["x"],
        n_probs=2,
        return_tokens=True,
        ignore_eos=True,
        dry_multiplier=0.5,
        json_schema={"type": "object"},
        response_fields=["content"],
        stream=True,
        model="demo",
    )

    assert request.sampling == SamplingParams(
        max_tokens=5,
        temperature=0.5,
        top_k=0,
        top_p=0.95,
        min_p=0.05,
        seed=7,
        stop=("x",),
        logprobs=2,
        token_ids=True,
        ignore_eos=True,
        dry_multiplier=0.5,
    )
    assert request.response_format.kind == "schema"
    assert (request.stream, request.model, request.dialect) == (True, "demo", "llama-server")
    assert (options.return_tokens, options.response_fields) == (True, ("content",))
    assert unread == []


@pytest.mark.parametrize(
    ("wire", "limit", "prompt_only"),
    [
        ({"n_predict": -1}, None, False),
        ({"n_predict": -2}, None, False),
        ({"n_predict": 0}, 1, True),
        ({"max_tokens": 3}, 3, False),
        ({"n_predict": 4, "max_tokens": 3}, 4, False),
    ],
)
def test_how_long_an_answer_may_be(
    wire: dict[str, Any], limit: int | None, prompt_only: bool
) -> None:
    request, options, _ = parse(**wire)

    assert (request.sampling.max_tokens, options.prompt_only) == (limit, prompt_only)


@pytest.mark.parametrize(
    ("bias", "ids", "words"),
    [
        ({"5": 1.5}, {5: 1.5}, ()),
        ([[5, 1.5], [6, False]], {5: 1.5, 6: float("-inf")}, ()),
        ([["no", -2]], {}, (("no", -2.0),)),
        ({"no": False}, {}, (("no", float("-inf")),)),
    ],
)
def test_biases_are_of_tokens_or_of_words(
    bias: Any, ids: dict[int, float], words: tuple[tuple[str, float], ...]
) -> None:
    request, options, unread = parse(logit_bias=bias)

    assert request.sampling.logit_bias == ids
    assert options.word_biases == words
    assert unread == []


def test_what_has_no_effect_is_known_and_what_asks_for_nothing_is_not_told() -> None:
    idle = {"n_keep": 0, "t_max_predict_ms": -1, "samplers": [], "lora": []}
    asked = {"n_keep": 5, "samplers": ["top_k"], "min_keep": 2}

    assert parse(**idle)[2] == []
    assert sorted(parse(**asked)[2]) == sorted(asked)


def test_adapters_are_chosen_by_number_and_without_any_the_models_own_hold() -> None:
    request, _, unread = parse(lora=[{"id": 1, "scale": 0.5}, {"id": 0}])

    assert request.adapters == (AdapterChoice(1, 0.5), AdapterChoice(0, 0.0))
    assert unread == []
    assert parse(lora=[])[0].adapters is parse()[0].adapters is None


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"lora": {"id": 0}}, "lora"),
        ({"lora": [0]}, "lora.0"),
        ({"lora": [{"scale": 1}]}, "lora.0.id"),
        ({"lora": [{"id": -1}]}, "lora.0.id"),
        ({"lora": [{"id": 0, "scale": 1e9}]}, "lora.0.scale"),
        ({"lora": [{"id": 0}] * 65}, "lora"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": {"prompt_string": "x", "multimodal_data": ["AAAA"]}}, "prompt"),
        ({"prompt": [1, 1.5]}, "prompt.1"),
        ({"prompt": [True, 1]}, "prompt.0"),
        ({"prompt": ["a", {}]}, "prompt.1.prompt_string"),
        ({"prompt": [[1], [-1]]}, "prompt.1.0"),
        ({"prompt": ["a"] * 1025}, "prompt"),
        ({"prompt": ["a", "b"], "stream": True}, "stream"),
        ({"n_predict": -3}, "n_predict"),
        ({"n_predict": "x"}, "n_predict"),
        ({"n_probs": 21}, "n_probs"),
        ({"temperature": "hot"}, "temperature"),
        ({"logit_bias": 1}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias.0"),
        ({"logit_bias": [[5, "x"]]}, "logit_bias.0"),
        ({"logit_bias": [[{}, 1]]}, "logit_bias.0"),
        ({"logit_bias": [[1, 1]] * 1025}, "logit_bias"),
        ({"image_data": [{"data": "AAAA", "id": 1}]}, "image_data"),
        ({"response_fields": [1]}, "response_fields.0"),
        ({"return_tokens": 1}, "return_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**wire)

    assert caught.value.param == param


def test_an_infilling_has_a_text_before_one_after_and_others_around() -> None:
    fields = Fields(
        {
            "input_prefix": "def f(",
            "input_suffix": "return 1",
            "input_extra": [{"filename": "a.py", "text": "import os"}],
            "prompt": "x",
        }
    )

    assert parse_infill(fields) == (
        "def f(",
        "return 1",
        "\n\n--- snippet ---\n\nimport os",
        "x",
    )


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"input_suffix": "x"}, "input_prefix"),
        ({"input_prefix": "x"}, "input_suffix"),
        ({"input_prefix": 1, "input_suffix": "x"}, "input_prefix"),
        ({"input_prefix": "x", "input_suffix": "x", "input_extra": ["a"]}, "input_extra.0"),
        ({"input_prefix": "x", "input_suffix": "x", "input_extra": [{}]}, "input_extra.0.text"),
        ({"input_prefix": "x", "input_suffix": "x", "prompt": [1]}, "prompt"),
    ],
)
def test_an_infilling_that_cannot_be_read_is_refused_by_name(
    wire: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_infill(Fields(wire))

    assert caught.value.param == param


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(key=st.sampled_from(["prompt", "logit_bias", "stop", "n_predict"]), value=values)
def test_whatever_stands_in_a_field_is_read_or_refused(key: str, value: Any) -> None:
    refusal = None
    try:
        parse(**{key: value})
    except InvalidRequest as error:
        refusal = error

    assert refusal is None or (refusal.param or "").split(".")[0] == key
