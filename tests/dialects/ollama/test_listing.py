from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.catalog.card import ModelCard, human
from service.catalog.demo import PATH
from service.catalog.directory import Directory
from service.catalog.gguf import read_header
from service.catalog.gguf_header import TO_SHOW, TO_SHOW_ALL
from service.catalog.ollama_store import OllamaStore
from service.dialects.ollama.listing import digest_of, encode_ps, encode_tags
from service.dialects.ollama.show import Contents, encode_show, read_contents
from service.facts import ModelFacts
from service.serving.runtime import ModelStatus
from tests.catalog.gguf_files import METADATA, TENSORS, gguf, write
from tests.catalog.stores import CONFIG, PROJECTOR, Store, weights
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
    broken = replace(CARD, name="broken:latest", problem="is no model", reason="corrupt")
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
def contents() -> Contents:
    return Contents((read_header(PATH, TO_SHOW),))


def test_a_file_tells_of_itself(contents: Contents) -> None:
    card = replace(CARD, parameter_count=123, chat_template="{{ tools }}")
    header, shown = contents.headers[0], encode_show(card, contents, ABLE)
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
    shown = encode_show(CARD, Contents((header,)), ABLE, verbose=True)
    info = shown["model_info"]

    assert len(info["tokenizer.ggml.tokens"]) == info["llama.vocab_size"]
    assert len(info["tokenizer.ggml.token_type"]) == info["llama.vocab_size"]
    assert len(shown["tensors"]) == header.tensor_count
    assert {"name", "type", "shape"} == shown["tensors"][0].keys()


def test_a_modelfile_has_what_was_asked_for_and_no_path(contents: Contents) -> None:
    card = replace(CARD, go_template="{{ .Prompt }}", parameters={"temperature": 1, "top_k": 3})
    options = {"temperature": 0.5, "stop": ["a", " b"]}
    text = encode_show(card, contents, ABLE, system="Be brief.", options=options)["modelfile"]

    assert text == (
        '# Modelfile of demo:latest\nFROM demo:latest\nTEMPLATE """{{ .Prompt }}"""\n'
        'SYSTEM """Be brief."""\nPARAMETER temperature 0.5\nPARAMETER top_k 3\n'
        'PARAMETER stop a\nPARAMETER stop """ b"""\nLICENSE """apache-2.0"""\n'
    )


def test_a_template_that_is_a_guess_is_marked_as_one(contents: Contents) -> None:
    own = encode_show(replace(CARD, chat_template="{{ messages }}"), contents, ABLE)
    guessed = encode_show(CARD, contents, ABLE)
    encoder = encode_show(replace(CARD, can_generate=False), contents, {"embedding"})

    assert (own["template"], own["template_source"]) == ("{{ messages }}", "gguf")
    assert "<|im_start|>" in guessed["template"]
    assert guessed["template_source"] == "guessed"
    assert "template" not in encoder


def test_what_a_manifest_adds_is_shown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.model(
        "registry.ollama.ai/library/all/7b",
        store.layer("model", weights()),
        store.layer("projector", gguf({**PROJECTOR, "clip.sizes": list(range(9))}, TENSORS)),
        store.layer("params", {"stop": ["<a>", "<b>"], "num_ctx": 4096}),
        store.layer("messages", [{"role": "user", "content": "Hi"}]),
        store.layer("license", "MIT\n"),
        store.layer("license", "Terms"),
        config={**CONFIG, "requires": "0.6.6"},
    )
    (card,) = OllamaStore(tmp_path).scan()
    some, all_of_it = (
        encode_show(card, read_contents(card, verbose), ABLE, verbose=verbose)
        for verbose in (False, True)
    )

    assert some["license"] == "MIT\nTerms"
    assert some["parameters"].splitlines() == [
        'stop                           "<a>"',
        'stop                           "<b>"',
        "num_ctx                        4096",
    ]
    assert some["messages"] == [{"role": "user", "content": "Hi"}]
    assert some["requires"] == "0.6.6"
    assert some["details"]["parameter_size"] == "8.0B"
    assert some["projector_info"]["clip.sizes"] == []
    assert some["projector_info"]["clip.has_vision_encoder"] is True
    assert all_of_it["projector_info"]["clip.sizes"] == list(range(9))
    assert len(all_of_it["tensors"]) == len(TENSORS)
    assert 'MESSAGE user """Hi"""' in some["modelfile"]


def test_all_tensors_of_a_split_model_are_shown(tmp_path: Path) -> None:
    for number in (1, 2):
        write(
            tmp_path / f"big-0000{number}-of-00002.gguf",
            metadata={**METADATA, "split.count": 2},
            tensors={f"blk.{number}.attn_q.weight": ((64, 64), 0)},
        )
    (card,) = Directory(tmp_path).scan()
    shown = encode_show(card, read_contents(card, True), ABLE, verbose=True)

    assert [tensor["name"] for tensor in shown["tensors"]] == [
        "blk.1.attn_q.weight",
        "blk.2.attn_q.weight",
    ]


def test_what_is_whole_and_not_for_this_server_is_listed_last_with_the_reason() -> None:
    other = replace(
        CARD,
        name="other:latest",
        modified=CARD.modified + 1,
        problem="was converted by Ollama",
        reason="incompatible: ollama-format",
    )
    cloud = replace(other, name="cloud:latest", reason="cloud", modified=0.0)
    models = encode_tags([(cloud, ABLE), (other, ABLE), (CARD, ABLE)])["models"]

    assert [model["name"] for model in models] == ["demo:latest", "other:latest", "cloud:latest"]
    assert "status" not in models[0]
    assert models[1]["status"] == "incompatible: ollama-format"
    assert models[1]["status_reason"] == "was converted by Ollama"
    assert [model["details"]["format"] for model in models] == ["gguf", "gguf", ""]
    assert read_contents(cloud, False).headers == ()
