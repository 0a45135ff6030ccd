from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import Fields
from service.dialects.sampling import parse_sampling, timeout_of, top_logprobs
from service.errors import InvalidRequest
from service.generation import SamplingParams


def test_a_request_without_parameters_has_openais_defaults() -> None:
    assert parse_sampling(Fields({})) == SamplingParams()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 40, "min_p": 0.05}, {"top_k": 40, "min_p": 0.05}),
        ({"repetition_penalty": 1.1}, {"repeat_penalty": 1.1, "repeat_last_n": -1}),
        ({"repeat_penalty": 1.1}, {"repeat_penalty": 1.1}),
        ({"repeat_penalty": 1.1, "repeat_last_n": 8}, {"repeat_penalty": 1.1, "repeat_last_n": 8}),
        ({"stop": ["a", ""]}, {"stop": ("a",)}),
        ({"stop": "\n"}, {"stop": ("\n",)}),
        ({"seed": -1}, {"seed": -1}),
        ({"seed": 2**64 - 1}, {"seed": 2**64 - 1}),
        ({"logit_bias": {"5": 2}}, {"logit_bias": {5: 2.0}}),
        ({"logit_bias": {"5": -100}}, {"logit_bias": {5: float("-inf")}}),
        ({"min_tokens": 3, "ignore_eos": True}, {"min_tokens": 3, "ignore_eos": True}),
        ({"stop_token_ids": [1, 2]}, {"stop_token_ids": (1, 2)}),
        ({"allowed_token_ids": [3, 4]}, {"allowed_token_ids": (3, 4)}),
        ({"include_stop_str_in_output": True}, {"include_stop": True}),
        ({"skip_special_tokens": False}, {"skip_special_tokens": False}),
        ({"mirostat": 2, "mirostat_tau": 4}, {"mirostat": 2, "mirostat_tau": 4.0}),
        ({"dry_multiplier": 0.8, "dry_sequence_breakers": ["x"]},
         {"dry_multiplier": 0.8, "dry_sequence_breakers": ("x",)}),
        ({"xtc_probability": 0.5}, {"xtc_probability": 0.5}),
        ({"typical_p": 0.9, "top_n_sigma": 1}, {"typical_p": 0.9, "top_n_sigma": 1.0}),
    ],
)  # fmt: skip
def test_each_name_sets_its_parameter(wire: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parse_sampling(Fields(wire)) == SamplingParams(**expected)


@pytest.mark.parametrize(
    ("wire", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop.0"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {"\u0663": 1}}, "logit_bias.\u0663"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias"),
        ({"mirostat": 3}, "mirostat"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"bad_words": [""]}, "bad_words.0"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids.0"),
        ({"allowed_token_ids": 1}, "allowed_token_ids"),
        ({"dry_sequence_breakers": ["x"] * 17}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": ["x" * 41]}, "dry_sequence_breakers.0"),
        ({"dry_sequence_breakers": ["x" * 40] * 5}, "dry_sequence_breakers"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_sampling(Fields(wire))

    assert caught.value.param == param


def test_more_tokens_at_least_than_at_most_cannot_be_honoured() -> None:
    with pytest.raises(InvalidRequest):
        parse_sampling(Fields({"min_tokens": 5}), max_tokens=4)


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("5", 5.0), ("9999", 60.0)])
def test_a_client_may_shorten_the_deadline(header: str | None, seconds: float | None) -> None:
    assert timeout_of(header, 60.0) == seconds


@pytest.mark.parametrize("header", ["", "0", "-1", "soon", "nan"])
def test_a_deadline_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        timeout_of(header, 60.0)


def test_a_whole_vocabulary_of_log_probabilities_is_refused_in_so_many_words() -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 20, not -1: a whole vocabulary"):
        top_logprobs(Fields({"prompt_logprobs": -1}), "prompt_logprobs")
