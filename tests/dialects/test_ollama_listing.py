from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.catalog.demo import PATH
from service.catalog.gguf import TO_SHOW, TO_SHOW_ALL, Header, read_header
from service.dialects.ollama_listing import digest_of, encode_ps, encode_tags, human
from service.dialects.ollama_show import encode_show
from service.facts import ModelFacts
from service.runtime import ModelStatus
from tests.dialects.fakes import CARD, FACTS

ABLE = frozenset({"thinking", "completion", "tools"})
WALL = 1_760_000_000_000_000_000


def status(card: ModelCard = CARD, facts: ModelFacts | None = FACTS, **given: Any) -> ModelStatus:
    return ModelStatus(card, "ready", None, facts, None, 0, 0, 20, **given)


def test_a_model_is_listed_as_ollama_lists_it() -> None:
    (model,) = encode_tags([(CARD, ABLE)])["models"]

    assert len(bytes.fromhex(model.pop("digest"))) == 32
    assert model == {
        "name": "demo:latest",
        "model": "demo:latest",
        "modified_at": "2025-10-09T08:53:20.000000000Z",
        "size": 5_000_000,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "2.50M",
            "quantization_level": "Q8_0",
            "context_length": 2048,
        },
        "capabilities": ["completion", "tools", "thinking"],
    }


def test_the_newest_model_is_listed_first_and_a_broken_one_not_at_all() -> None:
    newer = replace(CARD, name="new:latest", modified=CARD.modified + 1)
    broken = replace(CARD, name="broken:latest", problem="is no model")
    models = encode_tags([(CARD, ABLE), (broken, ABLE), (newer, ABLE)])["models"]

    assert [model["name"] for model in models] == ["new:latest", "demo:latest"]
    assert encode_tags([]) == {"models": []}


def test_a_digest_changes_with_the_model() -> None:
    assert digest_of(CARD) == digest_of(replace(CARD, name="other:latest", aliases=("x",)))
    assert digest_of(CARD) != digest_of(replace(CARD, modified=0.0))
    assert digest_of(replace(CARD, digest="sha256:" + "ab" * 32)) == "ab" * 32


@pytest.mark.parametrize(
    ("count", "text"),
    [(3_212_749_888, "3.2B"), (7_000_000_000, "7B"), (134_515_008, "134.52M"),
     (2_000_000, "2M"), (260_000, "260K"), (999, "999")],
)  # fmt: skip
def test_sizes_are_rounded_as_ollama_rounds_them(count: int, text: str) -> None:
    assert human(count) == text


def test_what_is_loaded_says_how_long_it_stays_and_the_longest_is_first() -> None:
    models = encode_ps(
        [
            status(replace(CARD, name="soon"), keep_alive=60.0, expires=105.0),
            status(replace(CARD, name="cold"), facts=None),
            status(replace(CARD, name="ever"), keep_alive=-1.0),
            status(replace(CARD, name="busy"), keep_alive=300.0),
        ],
        WALL,
        clock=100.0,
    )["models"]

    assert [(model["name"], model["expires_at"]) for model in models] == [
        ("ever", "2318-01-19T08:40:36.854775807Z"),
        ("busy", "2025-10-09T08:58:20.000000000Z"),
        ("soon", "2025-10-09T08:53:25.000000000Z"),
    ]
    assert models[0]["context_length"] == 2048
    assert models[0]["size"] == 5_000_000


def test_memory_of_gpus_that_nobody_measured_is_not_told() -> None:
    (on_cpu,) = encode_ps([status(keep_alive=1.0)], WALL, 0.0)["models"]
    (on_gpu,) = encode_ps([status(facts=replace(FACTS, gpu_offload=True))], WALL, 0.0)["models"]

    assert on_cpu["size_vram"] == 0
    assert "size_vram" not in on_gpu


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(PATH, TO_SHOW)


def test_a_file_tells_of_itself(header: Header) -> None:
    shown = encode_show(replace(CARD, parameter_count=123), header, ABLE)
    info = shown["model_info"]

    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == 123
    assert info["llama.context_length"] == header.context_length
    assert info["llama.vocab_size"] > 100
    assert info["general.languages"] == ["en"]
    assert info["tokenizer.ggml.tokens"] == info["tokenizer.ggml.token_type"] == []
    assert not {"general.name", "tokenizer.chat_template"} & info.keys()
    assert "tools" in shown["template"]
    assert shown["license"] == "apache-2.0"
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert "tensors" not in shown


def test_all_of_it_is_told_where_it_is_wanted() -> None:
    header = read_header(PATH, TO_SHOW_ALL)
    shown = encode_show(CARD, header, ABLE, verbose=True)
    info = shown["model_info"]

    assert len(info["tokenizer.ggml.tokens"]) == info["llama.vocab_size"]
    assert len(info["tokenizer.ggml.token_type"]) == info["llama.vocab_size"]
    assert len(shown["tensors"]) == header.tensor_count
    assert {"name", "type", "shape"} == shown["tensors"][0].keys()


def test_a_modelfile_has_what_was_asked_for_and_no_path(header: Header) -> None:
    card = replace(CARD, chat_template="{{ messages }}")
    options = {"temperature": 0.5, "stop": ["a", "b"]}
    text = encode_show(card, header, ABLE, system="Be brief.", options=options)["modelfile"]

    assert text == (
        '# Modelfile of demo:latest\nFROM demo:latest\nTEMPLATE """{{ messages }}"""\n'
        'SYSTEM """Be brief."""\nPARAMETER temperature 0.5\nPARAMETER stop a\nPARAMETER stop b\n'
        'LICENSE """apache-2.0"""\n'
    )
