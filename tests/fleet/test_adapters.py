"""Adapters of models that are served, on the bundled model and the real llama.cpp."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.catalog.demo import PATH
from service.errors import AdapterNotFound, InvalidRequest, ModelLoadFailed, ModelNotFound
from service.facts import Adapter
from service.generation import AdapterChoice, GenerationRequest, Text
from service.serving.runtime import Runtime
from tests.catalog.stores import CONFIG, Store
from tests.engine.adapters import adapter
from tests.engine.child import chat
from tests.fleet.fakes import texts
from tests.fleet.test_real_engine import request, running

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PATH, tmp_path / "base.gguf")
    adapter(tmp_path / "a.gguf", 13)
    adapter(tmp_path / "b.gguf", 20)
    return tmp_path


async def said(runtime: Runtime, wanted: GenerationRequest) -> str:
    generation = await runtime.admit(wanted)
    async with aclosing(generation):
        return "".join([texts(batch)[0] async for batch in generation.batches()])


async def asked(runtime: Runtime, model: str = "base", **given: Any) -> str:
    # As it comes: thoughts are part of it.
    wanted = replace(request(model=model, max_tokens=24), input=Text(chat("What is 40 + 2?")))
    return await said(runtime, replace(wanted, **given))


def own(*adapters: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"base": {"adapters": adapters}}}


async def test_the_operators_adapters_are_applied_and_can_be_chosen(folder: Path) -> None:
    first = {"path": folder / "a.gguf"}
    second = {"path": folder / "b.gguf", "name": "bee", "scale": 0}
    async with running(folder) as plain:
        base = await asked(plain)
    async with running(folder, **own(first, second)) as runtime:
        default = await asked(runtime)
        named, bee = await asked(runtime, "a"), await asked(runtime, "bee")
        none = await asked(runtime, adapters=())
        chosen = await asked(runtime, adapters=(AdapterChoice("bee"),))
        numbered = await asked(runtime, adapters=(AdapterChoice(1, 1.0),))
        both = await asked(runtime, adapters=(AdapterChoice("a", 0.7), AdapterChoice("bee", 0.7)))
        (status,) = [each for each in runtime.models() if each.card.name == "base:latest"]
        assert status.facts is not None
        loaded = [each.name for each in status.facts.adapters]
        for unknown in ((AdapterChoice("sea"),), (AdapterChoice(2),), (AdapterChoice("a"),) * 2):
            with pytest.raises(InvalidRequest):
                await runtime.admit(replace(request("?", "base"), adapters=unknown))

    assert none == base
    assert default == named != base
    assert bee == chosen == numbered
    assert len({base, default, bee, both}) == 4
    assert loaded == ["a", "bee"]
    assert [each.scale for each in status.adapters] == [1.0, 0.0]


async def test_an_adapter_comes_and_goes_while_the_model_is_served(folder: Path) -> None:
    async with running(folder) as runtime:
        base = await asked(runtime)
        with pytest.raises(ModelNotFound):
            await asked(runtime, "new")
        running_on = asyncio.create_task(asked(runtime))
        await runtime.adapters.add("new", "a.gguf", "base")
        assert await running_on == base
        assert await asked(runtime) == base
        first = await asked(runtime, "new")
        assert runtime.resolve("new").name == "base:latest"
        with pytest.raises(InvalidRequest, match="already been loaded"):
            await runtime.adapters.add("new", "b.gguf", "base")
        await runtime.adapters.add("new", str(folder / "b.gguf"), "base", anew=True)
        assert await asked(runtime, "new") not in (base, first)
        await runtime.adapters.remove("new")
        assert await asked(runtime) == base
        with pytest.raises(ModelNotFound):
            await asked(runtime, "new")
        with pytest.raises(AdapterNotFound):
            await runtime.adapters.remove("new")


async def test_scales_hold_from_the_next_request_on_and_after_an_unload(folder: Path) -> None:
    async with running(folder, **own({"path": folder / "a.gguf"})) as runtime:
        card = runtime.resolve("base")
        whole = await asked(runtime)
        runtime.adapters.rescale(card, {})
        without = await asked(runtime)
        assert runtime.adapters.of(card) == (Adapter(str(folder / "a.gguf"), "a", 0.0),)
        await runtime.unload("base")
        assert await asked(runtime) == without != whole
        assert await asked(runtime, "a") == whole
        with pytest.raises(InvalidRequest):
            runtime.adapters.rescale(card, {1: 1.0})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("new", "missing.gguf"),
        ("new", "../outside.gguf"),
        ("new", "/etc/passwd"),
        ("new", "link.gguf"),
        ("new", "base.gguf"),
        ("new", "other.gguf"),
        ("new", "nan.gguf"),
        ("new", "cut.gguf"),
        ("new", "text.gguf"),
        ("base", "a.gguf"),
    ],
)
async def test_what_cannot_be_applied_is_refused_and_the_model_serves_on(
    folder: Path, name: str, path: str
) -> None:
    inside = folder / "served"
    inside.mkdir()
    shutil.move(folder / "base.gguf", inside / "base.gguf")
    adapter(inside / "a.gguf")
    adapter(folder / "outside.gguf")
    (inside / "link.gguf").symlink_to(folder / "outside.gguf")
    adapter(inside / "other.gguf", metadata={"general.architecture": "qwen2"})
    adapter(inside / "nan.gguf", metadata={"adapter.lora.alpha": float("nan")})
    adapter(inside / "text.gguf", metadata={"adapter.lora.alpha": "much"})
    adapter(inside / "cut.gguf", cut=9000)
    async with running(inside) as runtime:
        base = await asked(runtime)
        (before,) = [each.pid for each in runtime.models() if each.card.name == "base:latest"]
        with pytest.raises(InvalidRequest):
            await runtime.adapters.add(name, path, "base")
        (after,) = [each.pid for each in runtime.models() if each.card.name == "base:latest"]
        assert before == after
        assert await asked(runtime) == base


async def test_a_model_whose_own_adapter_is_none_is_not_loaded_without_it(folder: Path) -> None:
    adapter(folder / "text.gguf", metadata={"adapter.lora.alpha": "much"})
    async with running(folder, **own({"path": folder / "text.gguf"})) as runtime:
        with pytest.raises(ModelLoadFailed):
            await asked(runtime)
        (status,) = [each for each in runtime.models() if each.card.name == "base:latest"]

    assert "its adapter text: its alpha is not a number" in str(status.reason)


async def test_the_adapters_of_an_ollama_model_are_applied(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "a.gguf", 13).read_bytes()
    store = Store(tmp_path / "store")
    demo = store.layer("model", PATH.read_bytes())
    for name, layers in {"plain": (demo,), "sums": (demo, store.layer("adapter", lora))}.items():
        path = f"registry.ollama.ai/library/{name}/latest"
        store.model(path, *layers, config=CONFIG, name=f"{name}:latest")
    async with running(store.root) as runtime:
        plain, adapted = await asked(runtime, "plain"), await asked(runtime, "sums")

    async with running(
        **{"models": {"demo": {"adapters": [{"path": tmp_path / "a.gguf"}]}}}
    ) as own:
        assert adapted == await asked(own, "demo") != plain
