from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.catalog import names
from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.catalog.demo import PATH, Demo
from service.catalog.roots import Root
from service.errors import EngineFailed, InvalidRequest
from service.fleet.quantizing import quantize
from service.store.making import Making, Quantize, Recipe
from service.store.own_store import OwnStore
from service.store.transfers import Step
from tests.catalog.gguf_files import METADATA, TENSORS, gguf
from tests.catalog.stores import CONFIG, GO_TEMPLATE, PROJECTOR, Store, weights
from tests.engine.adapters import adapter as written

NAME = names.parse("made")
ADAPTER = gguf({**METADATA, "general.type": "adapter"}, TENSORS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OwnStore]:
    made = OwnStore(tmp_path / "own")
    yield made
    made.close()


def sent(store: OwnStore, data: bytes) -> str:
    with store.incoming() as incoming:
        incoming.write(data)
        return incoming.keep(store.blobs)


async def make(
    store: OwnStore, recipe: Recipe, by: Quantize = quantize
) -> tuple[list[str], list[str]]:
    """The kinds of the layers of what was made, and the statuses on the way."""
    steps: list[Step] = []
    await Making(store, recipe, by, steps.append).make()
    layers = json.loads(store.read(recipe.name) or b"{}")["layers"]
    return [layer["mediaType"].rpartition(".")[2] for layer in layers], [s.status for s in steps]


def licenses(card: ModelCard) -> list[str]:
    return [Path(path).read_text() for path in card.licenses]


def found(*roots: Root | Path) -> Catalog:
    catalog = Catalog(roots, demo=Demo(Path("/nowhere/demo.gguf")))
    catalog.refresh()
    return catalog


def theirs(folder: Path) -> ModelCard:
    other = Store(folder)
    layers = [
        other.layer("model", weights()),
        other.layer("projector", gguf(PROJECTOR, TENSORS)),
        other.layer("template", GO_TEMPLATE),
        other.layer("system", "Be brief."),
        other.layer("params", {"stop": ["<a>"], "temperature": 0.5}),
        other.layer("messages", [{"role": "user", "content": "Hello"}]),
        other.layer("license", "MIT"),
    ]
    other.model("registry.ollama.ai/library/theirs/latest", *layers, config=CONFIG)
    return found(folder).resolve("theirs")


async def test_what_is_made_of_a_model_says_all_that_it_said(
    store: OwnStore, tmp_path: Path
) -> None:
    base = theirs(tmp_path / "theirs")
    kinds, statuses = await make(store, Recipe(NAME, base))
    made = found(Root(store.root, "ollama")).resolve("made")

    assert kinds == ["model", "projector", "license", "template", "system", "params", "messages"]
    assert statuses[-1] == "writing manifest"
    for same in ("architecture", "quantization", "context_length", "sees", "go_template", "system",
                 "parameters", "messages", "parameter_count"):  # fmt: skip
        assert getattr(made, same) == getattr(base, same), same
    assert made.problem is None
    assert licenses(made) == ["MIT"]


async def test_what_is_said_anew_goes_before_what_the_base_said(
    store: OwnStore, tmp_path: Path
) -> None:
    base = theirs(tmp_path / "theirs")
    recipe = Recipe(
        NAME, base, template="", system="Be long.", parameters={"temperature": 1.0, "seed": 3},
        messages=(), licenses=("Terms",),
    )  # fmt: skip
    await make(store, recipe)
    made = found(Root(store.root, "ollama")).resolve("made")

    assert (made.go_template, made.system, made.messages) == (None, "Be long.", ())
    assert made.parameters == {"stop": ["<a>"], "temperature": 1.0, "seed": 3}
    assert licenses(made) == ["MIT", "Terms"]


async def test_a_model_of_the_store_is_made_of_without_a_copy(store: OwnStore) -> None:
    first = Recipe(
        NAME, files={"a.gguf": sent(store, weights()), "b": sent(store, gguf(PROJECTOR, TENSORS))}
    )
    kinds, _ = await make(store, first)
    assert kinds == ["model", "projector"]

    base = found(Root(store.root, "ollama")).resolve("made")
    before = {path.name for path in store.blobs.iterdir()}
    _, statuses = await make(store, Recipe(names.parse("again"), base, system="x"))
    new = [status for status in statuses if status.startswith("creating new layer")]
    # The system's text, and the configuration.
    assert len(new) == 2
    assert len({path.name for path in store.blobs.iterdir()} - before) == 2


async def test_an_adapter_is_a_layer_of_its_own(store: OwnStore, tmp_path: Path) -> None:
    model = sent(store, PATH.read_bytes())
    adapter = sent(store, written(tmp_path / "adapter.gguf").read_bytes())
    kinds, _ = await make(store, Recipe(NAME, files={"m": model}, adapters={"a": adapter}))
    assert kinds == ["model", "adapter"]

    for recipe in (
        Recipe(NAME, files={"m": adapter}),
        Recipe(NAME, files={"m": model}, adapters={"a": model}),
    ):
        with pytest.raises(InvalidRequest, match="is not"):
            await make(store, recipe)
    other = sent(store, ADAPTER)
    with pytest.raises(InvalidRequest, match="does not fit the model"):
        await make(store, Recipe(NAME, files={"m": model}, adapters={"a": other}))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([b"no model"], "not a GGUF file"),
        ([weights(1), weights(2)], "a second model"),
        ([gguf(PROJECTOR, TENSORS)], "no GGUF file of a model"),
        ([weights(metadata={"split.count": 2, "split.no": 0})], "one of 2 shards"),
        ([weights(cut=9)], "9 bytes before"),
    ],
)
async def test_files_that_make_no_model_leave_nothing(
    store: OwnStore, files: list[bytes], sentence: str
) -> None:
    digests = {f"{n}.gguf": sent(store, data) for n, data in enumerate(files)}
    before = {path.name for path in store.blobs.iterdir()}
    with pytest.raises(InvalidRequest, match=sentence):
        await make(store, Recipe(NAME, files=digests))
    assert {path.name for path in store.blobs.iterdir()} == before
    assert list(store.names()) == []


async def test_a_disk_that_is_full_at_the_manifest_leaves_nothing(
    store: OwnStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    base = theirs(tmp_path / "theirs")
    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError):
        await make(store, Recipe(NAME, base))
    assert list(store.blobs.iterdir()) == []


async def test_whoever_gives_up_on_a_quantization_ends_it(store: OwnStore) -> None:
    pytest.importorskip("llama_cpp", reason="it is llama.cpp that quantizes")
    making = asyncio.create_task(
        make(store, Recipe(NAME, files={"m": sent(store, PATH.read_bytes())}, quantize="Q4_K_M"))
    )

    def children() -> list[psutil.Process]:
        return [c for c in psutil.Process().children() if "service.engine.quantize" in c.cmdline()]

    async with asyncio.timeout(20):
        while not children():  # noqa: ASYNC110  a process tells nobody that it is there
            await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert children() == []
    assert list(store.root.glob("incoming-*")) == []
    assert list(store.names()) == []


async def test_what_llama_cpp_cannot_quantize_is_said(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="it is llama.cpp that quantizes")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineFailed, match="could not quantize"):
        await quantize(broken, tmp_path / "out.gguf", "Q4_0")
