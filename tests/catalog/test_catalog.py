from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog, normal
from service.catalog.demo import Demo
from service.errors import InvalidRequest, ModelNotFound
from tests.catalog.gguf_files import write


def catalog(*roots: Path, demo: bool = False) -> Catalog:
    made = Catalog(roots, demo=Demo() if demo else Demo(Path("/nowhere/demo.gguf")))
    made.refresh()
    return made


@pytest.mark.parametrize(
    "name",
    [
        "Qwen2.5-0.5B-Instruct-Q4_K_M",
        "qwen2.5-0.5b-instruct-q4_k_m",
        "Qwen2.5-0.5B-Instruct-Q4_K_M:latest",
        "Qwen2.5-0.5B-Instruct-Q4_K_M:LATEST",
        "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf",
        " Qwen2.5-0.5B-Instruct-Q4_K_M ",
        "qwen2.5-0.5b-instruct:q4_k_m",
        "qwen/Qwen2.5-0.5B-Instruct-Q4_K_M",
        "registry.ollama.ai/library/qwen2.5-0.5b-instruct:q4_k_m",
    ],
)
def test_a_model_answers_to_its_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / "qwen/Qwen2.5-0.5B-Instruct-Q4_K_M.gguf")
    write(tmp_path / "other.gguf")

    assert catalog(tmp_path).resolve(name).name == "Qwen2.5-0.5B-Instruct-Q4_K_M:latest"


def test_a_model_answers_to_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "sub/a.gguf")

    assert catalog(tmp_path).resolve(str(path)).path == str(path)
    assert catalog(tmp_path).resolve(f"{tmp_path}/sub/../sub/a.gguf").path == str(path)


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o",
        "a:q4_0",
        "a:",
        ":latest",
        "../outside.gguf",
        "/etc/passwd",
        "a\0",
        "x" * 300,
        "outside",
    ],
)
def test_any_other_name_is_not_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "models/a.gguf")
    write(tmp_path / "outside.gguf")
    found = catalog(tmp_path / "models")

    with pytest.raises(ModelNotFound):
        found.resolve(name)
    with pytest.raises(ModelNotFound):
        found.resolve(str(tmp_path / "outside.gguf"))


def test_of_two_files_with_one_name_the_nearest_has_it_and_the_other_its_folder(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.gguf")
    other = write(tmp_path / "publisher/A.gguf")
    found = catalog(tmp_path)

    assert [card.name for card in found.cards()] == ["a:latest", "publisher/A:latest"]
    assert found.resolve("publisher/a").path == str(other)


def test_the_first_root_goes_before_the_second(tmp_path: Path) -> None:
    first = write(tmp_path / "one/a.gguf")
    write(tmp_path / "two/a.gguf")

    assert catalog(tmp_path / "one", tmp_path / "two").resolve("a").path == str(first)
    assert len(catalog(tmp_path / "one", tmp_path / "two").cards()) == 1


def test_an_alias_never_takes_a_name_that_is_a_models_own(tmp_path: Path) -> None:
    class Shelf:
        def scan(self) -> list[ModelCard]:
            card = ModelCard("b-q8_0:latest", "/b-q8_0", 1, 0.0, "directory", aliases=("a",))
            return [card, msgspec.structs.replace(card, name="a:latest", path="/a", aliases=())]

    found = Catalog(demo=Shelf())
    found.refresh()

    assert found.resolve("a").path == "/a"


@pytest.mark.parametrize("placeholder", [None, "", " ", "tgi", "dummy", "default", "TGI"])
def test_a_placeholder_means_the_only_installed_model(
    tmp_path: Path, placeholder: str | None
) -> None:
    write(tmp_path / "only.gguf")
    write(tmp_path / "broken.gguf", cut=1)

    assert catalog(tmp_path, demo=True).resolve(placeholder).name == "only:latest"


def test_a_placeholder_means_the_default_model_then_the_only_loaded_one(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.gguf")
    found = catalog(tmp_path)

    assert found.resolve("", default="b", loaded=["c:latest"]).name == "b:latest"
    assert found.resolve("", loaded=["c:latest"]).name == "c:latest"
    with pytest.raises(InvalidRequest, match="3 are installed"):
        found.resolve("", loaded=["a:latest", "b:latest"])
    with pytest.raises(ModelNotFound):
        found.resolve("", default="gone")


def test_the_demo_model_is_the_default_only_where_there_is_no_other(tmp_path: Path) -> None:
    assert catalog(demo=True).resolve(None).name == "demo:latest"

    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf")
    with pytest.raises(InvalidRequest):
        catalog(tmp_path, demo=True).resolve(None)
    assert catalog(tmp_path, demo=True).resolve("demo").source == "demo"


def test_without_any_model_a_placeholder_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        catalog().resolve(None)


def test_a_refresh_sees_what_was_added_removed_and_replaced(tmp_path: Path) -> None:
    first = write(tmp_path / "a.gguf")
    found = catalog(tmp_path)
    before = found.cards()

    write(tmp_path / "b.gguf")
    first.unlink()
    assert found.cards() is before

    found.refresh()
    assert [card.name for card in found.cards()] == ["b:latest"]
    assert [card.name for card in before] == ["a:latest"]


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Llama3", "llama3:latest"),
        ("llama3:8B", "llama3:8b"),
        ("registry.ollama.ai/library/llama3", "llama3:latest"),
        ("registry.ollama.ai/user/llama3:x", "user/llama3:x"),
        ("hf.co/User/Repo:Q4_K_M", "hf.co/user/repo:q4_k_m"),
        ("host:5000/ns/model", "host:5000/ns/model:latest"),
    ],
)
def test_names_are_compared_without_case_registry_and_missing_tags(name: str, same: str) -> None:
    assert normal(name) == same


def test_an_alias_means_a_model_and_never_takes_the_name_of_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.gguf")
    aliases = {"GPT-4o": "a", "b": "a", "second": "gpt-4o", "org/name:tag": "A:latest", "gone": "x"}
    found = Catalog([tmp_path], demo=Demo(Path("/nowhere/demo.gguf")), aliases=aliases)
    found.refresh()

    for word in ("gpt-4o", "gpt-4o:latest", "org/name:tag"):
        assert found.resolve(word).name == "a:latest"
    assert found.resolve("b").name == "b:latest"
    assert found.resolve("a").aliases == ("GPT-4o", "org/name:tag")
    assert found.resolve("a") in found.cards()
    assert {card.name for card in found.cards()} == {"a:latest", "b:latest"}
    for word in ("second", "gone"):
        with pytest.raises(ModelNotFound):
            found.resolve(word)


def test_an_alias_waits_for_its_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = Catalog([tmp_path], aliases={"gpt-4o": "later"})
    found.refresh()
    found.refresh()
    assert caplog.text.count("the alias gpt-4o means later, which there is not") == 1

    write(tmp_path / "later.gguf")
    found.refresh()
    assert found.resolve("gpt-4o").name == "later:latest"
