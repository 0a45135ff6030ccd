from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.fields import Fields
from service.dialects.tgi.request import GenerateOptions, over_budget, parse_generate
from service.errors import InvalidRequest
from service.events import FinishReason
from service.generation import (
    AdapterChoice,
    GenerationRequest,
    SamplingParams,
    Text,
    Truncation,
)
from tests.dialects.fakes import end


def parse(
    stream: bool = False, do_sample: bool = False, **parameters: Any
) -> tuple[GenerationRequest, GenerateOptions]:
    return parse_generate(
        Fields({"inputs": "hi", "parameters": parameters}),
        id="r",
        arrived=0.0,
        endpoint="/generate",
        stream=stream,
        do_sample=do_sample,
    )


def test_nothing_but_a_prompt_is_answered_greedily_to_the_end_of_the_context() -> None:
    request, _ = parse()

    assert request.input == Text("hi")
    assert request.dialect == "tgi"
    assert request.sampling == SamplingParams(
        temperature=0.0, include_stop=True, repeat_last_n=-1, max_tokens=None, must_fit=True
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"do_sample": True},
        {"temperature": 1.0},
        {"top_k": 10},
        {"top_p": 0.9},
        {"typical_p": 0.9},
    ],
)
def test_any_of_five_parameters_means_to_sample(parameters: dict[str, Any]) -> None:
    assert parse(**parameters)[0].sampling.temperature == 1.0


def test_an_endpoint_may_sample_where_the_client_does_not_say() -> None:
    assert parse(do_sample=True)[0].sampling.temperature == 1.0


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_k": 3}, {"top_k": 3}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"top_p": 1.0}, {"top_p": 1.0}),
        ({"typical_p": 0.2}, {"typical_p": 0.2}),
        ({"repetition_penalty": 1.3}, {"repeat_penalty": 1.3, "repeat_last_n": -1}),
        ({"frequency_penalty": -2.0}, {"frequency_penalty": -2.0}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
        ({"stop": ["a", ""]}, {"stop": ("a",), "include_stop": True}),
        ({"max_new_tokens": 20}, {"max_tokens": 20}),
        ({"details": True}, {"logprobs": 0}),
        ({"details": True, "top_n_tokens": 2}, {"logprobs": 2}),
        ({"decoder_input_details": True}, {"prompt_logprobs": 0, "token_ids": True}),
    ],
)
def test_each_parameter_is_honoured(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    sampling = parse(**parameters)[0].sampling

    assert {key: getattr(sampling, key) for key in expected} == expected


def test_a_stream_shows_the_likelihood_of_each_token() -> None:
    assert parse(stream=True)[0].sampling.logprobs == 0
    assert parse()[0].sampling.logprobs is None


def test_the_end_of_a_prompt_may_be_asked_for() -> None:
    assert parse(truncate=5)[0].truncation == Truncation(5)


def test_the_best_of_two_answers_takes_two() -> None:
    request, _ = parse(best_of=2, do_sample=True)

    assert request.n == 2
    assert request.sampling.logprobs == 0


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"best_of": 3}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 0}, "`best_of` must be > 0 and <= 2. Given: 0"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
        (
            {"best_of": 2, "do_sample": True, "stream": True},
            "`best_of` != 1 is not supported when streaming tokens",
        ),
        ({"temperature": 0.0}, "`temperature` must be strictly positive"),
        ({"temperature": -1}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"top_p": 0.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"top_p": 1.1}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"stop": ["x"] * 5}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"truncate": 0}, "`truncate` must be strictly positive. Given: 0"),
        (
            {"decoder_input_details": True, "stream": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
        (
            {"grammar": {"type": "json", "value": {"type": "object"}}},
            "grammar is not valid: Grammar must have a 'properties' field",
        ),
    ],
)
def test_what_tgi_refuses_is_refused_in_its_words(parameters: dict[str, Any], text: str) -> None:
    stream = parameters.pop("stream", False)
    with pytest.raises(InvalidRequest) as caught:
        parse(stream=stream, **parameters)

    assert caught.value.message == text
    assert caught.value.param is not None
    assert caught.value.param.startswith("parameters.")


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"grammar": {"value": "x"}}, "parameters.grammar.type"),
        ({"grammar": {"type": "json"}}, "parameters.grammar.value"),
        ({"grammar": {"type": "xml", "value": "x"}}, "parameters.grammar.type"),
        ({"grammar": {"type": "json_schema", "value": {}}}, "parameters.grammar.value.schema"),
        ({"seed": -1}, "parameters.seed"),
        ({"seed": 2**64}, "parameters.seed"),
        ({"details": "yes"}, "parameters.details"),
    ],
)
def test_anything_else_that_cannot_be_done_is_refused_by_name(
    parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**parameters)

    assert caught.value.param == param


@pytest.mark.parametrize("body", [{}, {"inputs": None}, {"inputs": ""}, {"prompt": "hi"}])
def test_a_body_without_a_prompt_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_generate(Fields(body), id="r", arrived=0.0, endpoint="/generate")

    assert caught.value.param == "inputs"
    assert ("/v1/completions" in caught.value.message) == ("prompt" in body)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "json", "value": SCHEMA},
        {"type": "json_object", "value": SCHEMA},
        {"type": "json", "value": '{"type":"object","properties":{"a":{"type":"integer"}}}'},
        {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}},
    ],
)
def test_a_grammar_may_be_a_schema_in_each_of_its_wrappings(grammar: dict[str, Any]) -> None:
    shape = parse(grammar=grammar)[0].response_format

    assert (shape.kind, shape.schema) == ("schema", SCHEMA)


def test_a_grammar_may_be_a_regular_expression() -> None:
    shape = parse(grammar={"type": "regex", "value": "[a-z]+"})[0].response_format

    assert (shape.kind, shape.regex) == ("regex", "[a-z]+")


def test_a_watermark_has_no_effect() -> None:
    assert parse(watermark=True)[1].ignored == ("parameters.watermark",)
    assert parse(watermark=False)[1].ignored == ()


@pytest.mark.parametrize("seed", [0, 10**19, 2**64 - 1])
def test_a_seed_may_be_any_number_of_64_bits(seed: int) -> None:
    sampling = parse(do_sample=True, seed=seed)[0].sampling

    assert sampling.seed == seed
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sampling), type=SamplingParams) == sampling


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 200))
def test_a_prompt_and_its_answer_have_to_fit_together(tokens: int, new: int, longest: int) -> None:
    error = over_budget(tokens, longest, GenerateOptions("hi", new))

    assert (error is None) == (tokens + new <= longest)
    if error is not None:
        assert error.message == (
            f"`inputs` tokens + `max_new_tokens` must be <= {longest}. "
            f"Given: {tokens} `inputs` tokens and {new} `max_new_tokens`"
        )


def test_no_more_may_be_kept_of_a_prompt_than_fits() -> None:
    error = over_budget(5, 100, GenerateOptions("hi", None, truncate=100))

    assert error is not None
    assert error.param == "parameters.truncate"


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (end(tokens=3), "eos_token"),
        (end(tokens=3, stop="END"), "stop_sequence"),
        (end(reason=FinishReason.LENGTH, tokens=5), "length"),
        (end(reason=FinishReason.TIMEOUT, tokens=3), "length"),
        (end(tokens=5), "length"),
        (end(tokens=5, stop="END"), "length"),
    ],
)
def test_length_is_looked_at_before_the_end_token(ending: Any, reason: str) -> None:
    assert GenerateOptions("hi", 5).finish_reason(ending) == reason


def test_an_adapter_is_chosen_by_its_name() -> None:
    assert parse(adapter_id="sums")[0].adapters == (AdapterChoice("sums"),)
    assert parse(adapter_id="")[0].adapters is parse()[0].adapters is None
