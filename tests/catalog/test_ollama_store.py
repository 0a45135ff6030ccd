from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from service.catalog.architectures import Architectures, installed
from service.catalog.card import ModelCard, Said
from service.catalog.ollama_store import OllamaStore
from tests.catalog.gguf_files import METADATA, TENSORS, gguf, write
from tests.catalog.stores import (
    CONFIG,
    GO_TEMPLATE,
    PROJECTOR,
    Store,
    damage,
    populate,
    weights,
)

LATEST = "registry.ollama.ai/library/{}/latest"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def scanned(store: Store, **given: Any) -> dict[str, ModelCard]:
    return {card.name: card for card in OllamaStore(store.root, **given).scan()}


def only(store: Store, **given: Any) -> ModelCard:
    (card,) = scanned(store, **given).values()
    return card


@pytest.mark.parametrize("old_names", [False, True])
def test_every_model_is_listed_as_ollama_lists_it(store: Store, old_names: bool) -> None:
    store.old_names = old_names
    populate(store)
    cards = scanned(store)

    assert len(store.listed) == 52
    assert sorted(cards) == sorted(listed.name for listed in store.listed)
    for listed in store.listed:
        card = cards[listed.name]
        assert (card.size_bytes, card.digest) == (listed.size, f"sha256:{listed.digest}")
        assert (card.problem, card.source) == (None, "ollama")
    assert len({card.path for card in cards.values()}) == 49


def test_a_card_has_what_the_manifest_adds_to_the_header(store: Store) -> None:
    manifest = store.model(
        "registry.ollama.ai/library/all/7b",
        store.layer("model", weights(), **{"from": "base:7b"}),
        store.layer("projector", gguf(PROJECTOR, TENSORS)),
        store.layer("template", GO_TEMPLATE),
        store.layer("system", "Be brief."),
        store.layer("params", {"stop": ["<a>"], "num_ctx": 4096, "temperature": 0.5}),
        store.layer("messages", [{"role": "user", "content": "Hi"}, {"role": "assistant"}]),
        store.layer("license", "MIT"),
        store.layer("license", "Terms"),
        config={**CONFIG, "requires": "0.6.6", "renderer": "r", "parser": "p"},
    )
    card = only(store)

    assert card.name == "all:7b"
    assert (card.architecture, card.context_length) == ("llama", 8192)
    assert (card.family, card.families, card.parameter_size) == ("llama", ("llama",), "8.0B")
    assert (card.quantization, card.parent, card.requires) == ("Q4_K_M", "base:7b", "0.6.6")
    assert (card.renderer, card.parser) == ("r", "p")
    assert card.chat_template == METADATA["tokenizer.chat_template"]
    assert (card.go_template, card.system) == (GO_TEMPLATE, "Be brief.")
    assert card.parameters == {"stop": ["<a>"], "num_ctx": 4096, "temperature": 0.5}
    assert card.messages == (Said("user", "Hi"), Said("assistant"))
    assert [Path(path).read_text() for path in card.licenses] == ["MIT", "Terms"]
    assert card.projector is not None
    assert card.sees
    assert card.modified == manifest.stat().st_mtime


def test_the_layers_of_old_stores_are_understood(store: Store) -> None:
    store.old_names = True
    store.model(
        LATEST.format("old"), store.layer("model", weights()), store.layer("prompt", GO_TEMPLATE)
    )
    card = only(store)

    assert card.go_template == GO_TEMPLATE
    assert Path(card.path).name.startswith("sha256:")


def test_damage_is_told_in_its_own_words_and_takes_nothing_from_the_others(
    store: Store, tmp_path: Path
) -> None:
    populate(store, 32)
    damaged = damage(store, tmp_path / "outside")
    cards = scanned(store)
    bad = {name: card for name, card in cards.items() if card.problem}

    assert {name: card.reason for name, card in bad.items()} == damaged
    assert len({card.problem for card in bad.values()}) == len(damaged)
    assert sorted(cards.keys() - bad.keys()) == sorted(listed.name for listed in store.listed)
    assert not any(str(tmp_path) in (card.problem or "") for card in bad.values())


# In a process of its own, since a hook cannot be taken away again.
SCAN = """
import os, sys
from pathlib import Path
from service.catalog.ollama_store import OllamaStore

# Once before: modules are imported when they are first needed.
OllamaStore(Path(sys.argv[1])).scan()
shelf = OllamaStore(Path(sys.argv[1]))
opened = []
def hook(event, arguments):
    if event in ("open", "os.scandir", "os.listdir") and isinstance(arguments[0], str | Path):
        opened.append(os.path.realpath(arguments[0]))
sys.addaudithook(hook)
shelf.scan()
print("\\n".join(opened))
"""


def test_nothing_outside_the_store_is_opened(store: Store, tmp_path: Path) -> None:
    populate(store, 4)
    damage(store, tmp_path / "outside")
    os.symlink(tmp_path / "outside", store.root / "manifests/registry.ollama.ai/library/link")
    command = [sys.executable, "-c", SCAN, str(store.root)]
    opened = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert str(store.root / "manifests") in opened
    assert [path for path in opened if not path.startswith(str(store.root))] == []


def test_a_pipe_holds_no_scan_up(store: Store) -> None:
    place = store.model(LATEST.format("pipe"))
    place.unlink()
    os.mkfifo(place)
    layer = store.layer("model", weights(5))
    store.blob_path(layer["digest"]).unlink()
    os.mkfifo(store.blob_path(layer["digest"]))
    store.model(LATEST.format("pipe-blob"), layer)

    assert {card.reason for card in scanned(store).values()} == {"unreadable"}


def test_other_levels_and_downloads_are_no_models(store: Store) -> None:
    store.model(LATEST.format("a"), name="a:latest")
    (store.root / "manifests/.DS_Store").touch()
    (store.root / "manifests/registry.ollama.ai/library/stray").touch()
    deeper = store.root / "manifests/registry.ollama.ai/library/b/c"
    deeper.mkdir(parents=True)
    (deeper / "d").touch()
    (store.root / f"blobs/sha256-{'0' * 64}-partial-0").touch()

    assert {name: card.reason for name, card in scanned(store).items()} == {
        "a:latest": None,
        "b:c": "bad-manifest",
    }


def test_a_name_that_ollama_would_not_take_is_told(store: Store) -> None:
    store.model("registry.ollama.ai/library/my model <b>/-x")
    card = only(store)

    assert card.reason == "bad-name"
    assert card.name == "registry.ollama.ai-library-my-model-b---x"


@pytest.mark.parametrize(
    ("layer", "config", "reason"),
    [
        (("tensor", b"x"), {"model_format": "safetensors"}, "safetensors"),
        (
            ("license", "x"),
            {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"},
            "cloud",
        ),
        (("license", "x"), {}, "no-weights"),
    ],
)
def test_a_model_without_a_gguf_is_told_with_what_is_known_of_it(
    store: Store, layer: tuple[str, Any], config: dict[str, Any], reason: str
) -> None:
    store.model(LATEST.format("a"), store.layer(*layer), config=config, name="a:latest")
    card = only(store)

    assert card.reason == reason
    assert (card.size_bytes, card.digest) == (
        store.listed[0].size,
        f"sha256:{store.listed[0].digest}",
    )


def test_an_adapter_belongs_to_its_model(store: Store) -> None:
    lora = gguf({**METADATA, "general.type": "adapter"})
    store.model(LATEST.format("a"), store.layer("model", weights()), store.layer("adapter", lora))
    card = only(store)

    assert card.problem is None
    assert len(card.adapters) == 1


def test_an_unknown_layer_is_a_warning_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.model(LATEST.format("a"), store.layer("model", weights()), store.layer("novelty", "x"))
    shelf = OllamaStore(store.root)
    assert [card.problem for card in shelf.scan() + shelf.scan()] == [None, None]

    assert [record.message for record in caplog.records if "novelty" in record.message][1:] == []
    assert "novelty" in caplog.text


# One header of each architecture that Ollama converts in its own way, and the same as llama.cpp's
# own converter writes it.
OWN: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, Any], tuple[str, ...]]] = {
    "gemma3": ({}, ("v.blk.0.ln1.weight",), {"gemma3.attention.layer_norm_rms_epsilon": 1e-6}, ()),
    "qwen35": (
        {"qwen35.rope.dimension_sections": [11, 11, 10]},
        (),
        {"qwen35.rope.dimension_sections": [11, 11, 10, 0]},
        (),
    ),
    "qwen3vl": ({}, (), {"qwen3vl.rope.dimension_sections": [24, 20, 20, 0]}, ()),
    "mistral3": ({"mistral3.rope.scaling_beta": 0.1}, (), {}, ()),
    "llama4": ({}, ("mm.linear_1.weight",), {}, ()),
    "lfm2": ({}, ("output_norm.weight",), {}, ("token_embd_norm.weight",)),
    "qwen3next": ({}, ("blk.0.ssm_dt",), {}, ("blk.0.ssm_dt.bias",)),
    "gemma4": ({"tokenizer.ggml.model": "llama"}, (), {"tokenizer.ggml.model": "gemma4"}, ()),
    "bert": (
        {"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": ["a"]},
        (),
        {"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": [1, 2]},
        (),
    ),
}


def converted(architecture: str, more: dict[str, Any], names: tuple[str, ...]) -> bytes:
    metadata = {"general.architecture": architecture, f"{architecture}.block_count": 2, **more}
    return gguf(metadata, {**TENSORS, **dict.fromkeys(names, ((32,), 0))})


@pytest.mark.parametrize("architecture", OWN)
def test_ollamas_own_conversions_are_known_by_their_marks(store: Store, architecture: str) -> None:
    theirs, their_names, ours, our_names = OWN[architecture]
    store.model(
        LATEST.format("theirs"),
        store.layer("model", converted(architecture, theirs, their_names)),
    )
    store.model(
        LATEST.format("ours"), store.layer("model", converted(architecture, ours, our_names))
    )
    cards = scanned(store)

    assert cards["theirs:latest"].reason == "incompatible: ollama-format"
    assert "hf.co/ggml-org" in (cards["theirs:latest"].problem or "")
    assert cards["ours:latest"].reason is None


@pytest.mark.parametrize("architecture", ["gptoss", "olmo3", "qwen25vl", "mllama"])
def test_ollamas_own_names_for_architectures_are_known(store: Store, architecture: str) -> None:
    store.model(LATEST.format("a"), store.layer("model", converted(architecture, {}, ())))

    assert only(store).reason == "incompatible: ollama-format"


def test_an_architecture_that_this_llama_cpp_does_not_know_is_told(store: Store) -> None:
    store.model(LATEST.format("new"), store.layer("model", converted("llama99", {}, ())))
    store.model(LATEST.format("known"), store.layer("model", weights()))
    cards = scanned(store, architectures=Architectures(installed()))

    assert cards["new:latest"].reason == "unsupported-arch"
    assert "llama99" in (cards["new:latest"].problem or "")
    assert cards["known:latest"].reason is None


def test_a_manifest_that_is_being_written_is_what_it_was(store: Store) -> None:
    place = store.model(LATEST.format("a"))
    whole = place.read_bytes()
    shelf = OllamaStore(store.root)
    (before,) = shelf.scan()

    place.write_bytes(whole[:20])
    assert shelf.scan() == [before]
    os.utime(place, (time.time() - 60,) * 2)
    assert [card.reason for card in shelf.scan()] == ["bad-manifest"]
    place.write_bytes(whole)
    assert [card.reason for card in shelf.scan()] == [None]


def test_a_writer_beside_the_scans_disturbs_none(store: Store) -> None:
    first = store.model(LATEST.format("a")).read_bytes()
    place = store.model(LATEST.format("a"), store.layer("model", weights(77)), name="a:latest")
    last = place.read_bytes()
    store.model(LATEST.format("b"))
    shelf = OllamaStore(store.root)
    shelf.scan()
    writing = threading.Event()

    def write_often() -> None:
        for number in range(1000):
            with place.open("wb") as file:
                data = last if number % 2 else first
                file.write(data[:100])
                file.flush()
                file.write(data[100:])
        writing.set()

    writer = threading.Thread(target=write_often)
    writer.start()
    scans = 0
    while not writing.is_set() or scans < 5:
        assert {card.name: card.reason for card in shelf.scan()} == {
            "a:latest": None,
            "b:latest": None,
        }
        scans += 1
    writer.join()

    card = next(card for card in shelf.scan() if card.name == "a:latest")
    assert card.digest == f"sha256:{store.listed[0].digest}"


def test_what_is_added_removed_and_replaced_is_seen(store: Store) -> None:
    a, b = (store.model(LATEST.format(name)) for name in "ab")
    shelf = OllamaStore(store.root)
    shelf.scan()

    b.unlink()
    store.model(LATEST.format("a"), store.layer("model", weights(9)))
    store.model(LATEST.format("c"))
    cards = {card.name: card for card in shelf.scan()}

    assert sorted(cards) == ["a:latest", "c:latest"]
    assert weights(9) == Path(cards["a:latest"].path).read_bytes()
    for path in (store.root / "blobs").iterdir():
        path.unlink()
    os.utime(a, (1, 1))
    assert {card.reason for card in shelf.scan()} == {"missing-blob"}


def test_either_half_may_lie_elsewhere(store: Store, tmp_path: Path) -> None:
    store.model(LATEST.format("a"))
    (tmp_path / "disk").mkdir()
    shutil.move(store.root / "blobs", tmp_path / "disk/blobs")
    (store.root / "blobs").symlink_to(tmp_path / "disk/blobs")

    assert only(store).problem is None


def test_a_store_that_is_not_there_or_empty_holds_nothing(tmp_path: Path) -> None:
    assert OllamaStore(tmp_path / "nowhere").scan() == []
    write(tmp_path / "loose.gguf")
    assert OllamaStore(tmp_path).scan() == []


def test_null_where_go_writes_it_is_nothing(store: Store) -> None:
    layer = store.layer("model", weights())
    config = store.blob(json.dumps({**CONFIG, "model_families": None}).encode())
    store.manifest(LATEST.format("a"), {"layers": [layer], "config": {**config, "mediaType": "x"}})
    store.manifest(LATEST.format("b"), {"layers": None, "config": {"digest": "", "size": 0}})
    cards = scanned(store)

    assert (cards["a:latest"].reason, cards["a:latest"].families) == (None, ())
    assert cards["b:latest"].reason == "no-weights"
