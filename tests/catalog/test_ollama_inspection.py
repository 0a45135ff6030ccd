"""The `ollama` command is a script here, that prints what the real one does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from service.catalog.card import ModelCard
from service.catalog.ollama_inspection import Inspection, compared, told
from service.settings import Settings

pytestmark = pytest.mark.anyio

SHOWN = """\
  Model
    architecture        llama     
    parameters          3.2B      
    context length      131072    
    embedding length    3072      
    quantization        Q4_K_M    

  Capabilities
    completion    
    tools         

  Parameters
    stop    "<|eot_id|>"    

"""
CARD = ModelCard(
    "llama3.2:latest",
    "/store/blobs/sha256-1",
    1,
    0.0,
    "ollama",
    architecture="llama",
    parameter_count=3_212_749_888,
    quantization="Q4_K_M",
    context_length=131072,
)


def card(**other: object) -> ModelCard:
    return ModelCard(**{**{f: getattr(CARD, f) for f in CARD.__struct_fields__}, **other})


def program(folder: Path, text: str, code: int = 0) -> Path:
    """Counts how often it is asked, and prints what it is told to."""
    (folder / "text").write_text(text)
    path = folder / "ollama"
    path.write_text(
        f'#!/bin/sh\nset -e\necho "$@" >> {folder}/asked\n/bin/cat {folder}/text\nexit {code}\n'
    )
    path.chmod(0o755)
    return path


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def inspection(folder: Path, cards: Sequence[ModelCard], **settings: bool) -> Inspection:
    in_force = Settings(**settings)  # type: ignore[arg-type]
    return Inspection(lambda: cards, lambda: in_force, str(folder))


def test_the_rows_of_the_model_are_read_and_no_others() -> None:
    assert told(SHOWN) == {
        "architecture": "llama",
        "parameters": "3.2B",
        "context length": "131072",
        "embedding length": "3072",
        "quantization": "Q4_K_M",
    }


def test_what_both_say_alike_is_no_difference() -> None:
    assert compared(SHOWN, CARD) == {}


def test_what_one_of_them_does_not_say_is_no_difference() -> None:
    assert compared("", CARD) == {}
    assert compared(SHOWN, card(context_length=None, architecture=None)) == {}


def test_each_difference_is_told_with_both_sides() -> None:
    other = card(context_length=4096, quantization="Q8_0")

    assert compared(SHOWN, other) == {
        "context length": ("131072", "4096"),
        "quantization": ("Q4_K_M", "Q8_0"),
    }


async def test_models_of_ollamas_stores_are_asked_about_once(tmp_path: Path) -> None:
    program(tmp_path, SHOWN)
    other = card(name="other:latest", context_length=4096)
    elsewhere = card(name="loose:latest", source="directory")
    found = inspection(tmp_path, [CARD, other, elsewhere])
    await found.look()
    await found.look()

    assert asked(tmp_path) == ["show -- llama3.2:latest", "show -- other:latest"]
    assert found.differences(CARD) == {}
    assert found.differences(other) == {"context length": ("131072", "4096")}


async def test_a_file_that_has_changed_is_asked_about_again(tmp_path: Path) -> None:
    program(tmp_path, SHOWN)
    cards = [CARD]
    found = inspection(tmp_path, cards)
    await found.look()
    cards[0] = card(modified=1.0)
    await found.look()

    assert len(asked(tmp_path)) == 2


async def test_a_server_that_does_not_run_is_asked_another_time(tmp_path: Path) -> None:
    program(tmp_path, "could not connect", code=1)
    found = inspection(tmp_path, [CARD])
    await found.look()
    program(tmp_path, SHOWN.replace("131072", "8192"))
    await found.look()

    assert found.differences(CARD) == {"context length": ("8192", "131072")}


async def test_without_the_command_nothing_is_asked(tmp_path: Path) -> None:
    found = inspection(tmp_path, [CARD])
    await found.look()

    assert found.differences(CARD) == {}


async def test_switched_off_nothing_is_shown(tmp_path: Path) -> None:
    program(tmp_path, SHOWN)
    other = card(context_length=4096)
    found = inspection(tmp_path, [other], enable_model_inspection=False)
    await found.look()

    assert found.differences(other) == {}
