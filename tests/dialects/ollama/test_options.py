from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.dialects.fields import Fields
from service.dialects.ollama.options import (
    LOADING,
    OBSOLETE,
    SAMPLING_FLOATS,
    SAMPLING_INTEGERS,
    Options,
    parse_options,
    unmet,
    wishes_of,
)
from service.errors import InvalidRequest
from service.generation import LoadWishes, SamplingParams
from tests.dialects.fakes import FACTS

DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.9)


def parse(**options: Any) -> Options:
    return parse_options(Fields({"options": options}))


def sampled(**options: Any) -> SamplingParams:
    return parse(**options).sampling


def test_the_defaults_are_ollamas() -> None:
    assert parse_options(Fields({})).sampling == parse().sampling == DEFAULTS
    assert parse().num_keep == 4


@pytest.mark.parametrize(
    ("options", "sampling"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": -1}, {"temperature": 0.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": None}),
        ({"seed": 2**62}, {"seed": 2**62}),
        ({"num_predict": 10}, {"max_tokens": 10}),
        ({"num_predict": 10.9}, {"max_tokens": 10}),
        ({"num_predict": -1}, {"max_tokens": None}),
        ({"num_predict": -2}, {"max_tokens": None}),
        ({"num_predict": 0}, {"max_tokens": None}),
        ({"num_predict": 2**50}, {"max_tokens": 2**31 - 1}),
        ({"top_k": 5.0}, {"top_k": 5}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_p": 1.5}, {"top_p": 1.0}),
        ({"min_p": 0.05}, {"min_p": 0.05}),
        ({"typical_p": 0.7}, {"typical_p": 0.7}),
        ({"repeat_last_n": -1}, {"repeat_last_n": -1}),
        ({"repeat_penalty": 1.1}, {"repeat_penalty": 1.1}),
        ({"presence_penalty": 1}, {"presence_penalty": 1.0}),
        ({"frequency_penalty": -1}, {"frequency_penalty": -1.0}),
        ({"stop": ["a", "", "b"]}, {"stop": ("a", "b")}),
        ({"mirostat": 2, "mirostat_tau": 3, "mirostat_eta": 0.2},
         {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.2}),
        ({"temperature": None, "stop": None}, {}),
    ],
)  # fmt: skip
def test_each_option_reaches_the_sampler(options: dict[str, Any], sampling: dict[str, Any]) -> None:
    assert sampled(**options) == replace(DEFAULTS, **sampling)


@pytest.mark.parametrize(
    ("key", "type"),
    [
        *[(key, "integer") for key in sorted(SAMPLING_INTEGERS | {"num_keep"})],
        *[(key, "float32") for key in sorted(SAMPLING_FLOATS)],
        *[(key, type) for key, type in LOADING.items() if type],
        *[(key, type) for key, (type, _) in OBSOLETE.items()],
    ],
)
def test_a_wrong_type_is_refused_in_ollamas_words(key: str, type: str) -> None:
    wrong: list[Any] = ["1", [], {}, 1 if type == "boolean" else True]
    for value in wrong:
        with pytest.raises(InvalidRequest) as caught:
            parse(**{key: value})

        assert caught.value.message == f'option "{key}" must be of type {type}'
        assert caught.value.param == f"options.{key}"


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        ("x", "must be of type array"),
        (1, "must be of type array"),
        ([1], "must be of an array of strings"),
        (["x"] * 65, "must be at most"),
        (["x" * 257], "must be at most"),
    ],
)
def test_stops_are_an_array_of_strings(stop: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=f'option "stop" {words}'):
        parse(stop=stop)


@pytest.mark.parametrize(
    "options",
    [{"repeat_penalty": 0}, {"repeat_penalty": -1}, {"temperature": 1e9}, {"mirostat": 3},
     {"presence_penalty": 1e30}, {"temperature": 1e300}, {"seed": 2**63 + 1}],
)  # fmt: skip
def test_what_no_sampler_can_make_sense_of_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=f'option "{next(iter(options))}" must be'):
        parse(**options)


def test_what_nobody_knows_is_left_unread_and_not_refused() -> None:
    fields = Fields({"options": {"frobnicate": [1], "num_predict": 1}})

    assert parse_options(fields).sampling.max_tokens == 1
    assert fields.unread() == ["options.frobnicate"]


@pytest.mark.parametrize("key", OBSOLETE)
def test_an_obsolete_option_is_reported_only_where_it_would_change_something(key: str) -> None:
    type, neutral = OBSOLETE[key]
    other = not neutral if type == "boolean" else neutral + 1

    assert parse(**{key: neutral}).ignored == ()
    assert parse(**{key: other}).ignored == (f"options.{key}",)


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({"num_ctx": 2048}, True),
        ({"num_ctx": 512}, True),
        ({"num_ctx": 2049}, False),
        ({"num_batch": 2048}, True),
        ({"num_batch": 512}, False),
        ({"num_gpu": -1}, True),
        ({"num_gpu": 0}, True),
        ({"num_gpu": 99}, False),
        ({"num_gpu_layers": 99}, False),
        ({"main_gpu": 0}, True),
        ({"main_gpu": 1}, False),
        ({"num_thread": 0}, True),
        ({"num_thread": 2}, True),
        ({"num_thread": 8}, False),
        ({"use_mmap": True}, True),
        ({"use_mmap": False}, False),
        ({"use_mlock": False}, True),
        ({"use_mlock": True}, False),
        ({"tensor_split": []}, True),
        ({"tensor_split": "0.5,0.5"}, False),
        ({"tensor_split": {"a": 1}}, False),
        ({"tensor_split": 7}, False),
    ],
)
def test_what_the_model_is_loaded_with_counts_as_met(options: dict[str, Any], met: bool) -> None:
    ignored = unmet(parse(**options).loading, FACTS)

    assert ignored == ([] if met else [f"options.{next(iter(options))}"])


@pytest.mark.parametrize(
    ("wanted", "placed", "met"),
    [(99, 5, True), (5, 5, True), (4, 5, False), (0, 5, False), (0, 0, True), (3, 3, True),
     (4, 3, False), (-1, 3, True)],
)  # fmt: skip
def test_layers_on_gpus_are_compared_with_those_in_force(
    wanted: int, placed: int, met: bool
) -> None:
    facts = replace(FACTS, gpu_offload=True, gpu_layers=placed)

    assert (unmet({"num_gpu": wanted}, facts) == []) is met


@pytest.mark.parametrize(
    ("options", "wishes"),
    [
        ({}, LoadWishes()),
        ({"num_ctx": 8192}, LoadWishes(n_ctx=8192)),
        ({"num_ctx": 0, "num_batch": -1, "num_thread": 0, "num_gpu": -1}, LoadWishes()),
        ({"num_ctx": 2**62, "num_batch": 10**9, "num_thread": 10**6}, LoadWishes()),
        ({"num_gpu": 0, "main_gpu": 1}, LoadWishes(gpu_layers=0, main_gpu=1)),
        ({"num_gpu_layers": 7}, LoadWishes(gpu_layers=7)),
        ({"num_thread": 1, "num_batch": 64}, LoadWishes(threads=1, n_batch=64)),
        ({"use_mmap": False, "use_mlock": True}, LoadWishes(use_mmap=False, use_mlock=True)),
        ({"tensor_split": "1,3"}, LoadWishes(tensor_split=(1.0, 3.0))),
        ({"tensor_split": [-1, 2]}, LoadWishes()),
        ({"tensor_split": [0, 0]}, LoadWishes()),
        ({"tensor_split": {"a": 1}}, LoadWishes()),
    ],
)
def test_what_can_be_wished_for_is(options: dict[str, Any], wishes: LoadWishes) -> None:
    assert wishes_of(parse(**options).loading) == wishes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
NAMES = sorted(SAMPLING_INTEGERS | set(SAMPLING_FLOATS) | set(LOADING) | set(OBSOLETE) | {"stop"})


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_any_value_is_taken_or_refused_by_its_name(options: dict[str, Any]) -> None:
    refused = None
    try:
        parsed = parse(**options)
    except InvalidRequest as error:
        refused = error.param
    if refused is None:
        assert 0 <= parsed.sampling.temperature <= 1000
        assert set(unmet(parsed.loading, FACTS)) <= {f"options.{k}" for k in options}
    else:
        assert refused.removeprefix("options.") in options
