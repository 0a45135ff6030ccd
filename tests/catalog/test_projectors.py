from __future__ import annotations

from pathlib import Path

import pytest

from service.catalog.directory import Directory
from service.catalog.gguf_file import GgufFile
from service.catalog.index import File
from service.catalog.projectors import projector_for
from tests.catalog.gguf_files import write
from tests.catalog.stores import PROJECTOR


def chosen(stem: str, *names: str, stems: tuple[str, ...] = ()) -> str | None:
    files = [File(Path(f"/m/{n}.gguf"), f"/m/{n}.gguf", 1, 0.0, GgufFile()) for n in names]
    found = projector_for(stem, files, stems or (stem,))
    return found.path.stem if found else None


@pytest.mark.parametrize(
    "name",
    [
        "mmproj-gemma-3-4b-it-f16",
        "mmproj-gemma-3-4b-it-Q8_0",
        "mmproj-Gemma-3-4B-IT",
        "gemma-3-4b-it-mmproj-f16",
        "gemma-3-4b-it.mmproj-Q8_0",
        "mmproj-gemma-3-4b",
        "mmproj",
        "mmproj-F16",
        "mmproj-model-f16-nothing-else",
    ],
)
def test_a_projector_belongs_to_the_model_that_its_name_begins_with(name: str) -> None:
    expected = None if "nothing" in name else name
    assert chosen("gemma-3-4b-it-Q4_K_M", name) == expected


def test_one_without_a_name_belongs_to_no_one_of_several_models() -> None:
    quantizations = ("gemma-3-4b-it-Q4_K_M", "gemma-3-4b-it-Q8_0")

    assert chosen("gemma-3-4b-it-Q4_K_M", "mmproj-F16", stems=quantizations) == "mmproj-F16"
    assert chosen("gemma", "mmproj-F16", stems=("gemma", "qwen")) is None


def test_of_several_the_most_alike_and_then_the_usual_kind_is_taken() -> None:
    names = ("mmproj-gemma-f16", "mmproj-gemma-3-4b-f32", "mmproj-gemma-3-4b-bf16")

    assert chosen("gemma-3-4b-Q4_0", *names) == "mmproj-gemma-3-4b-bf16"


def test_a_directory_pairs_them_and_lists_none_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "sees-Q4_0.gguf")
    write(tmp_path / "blind.gguf")
    projector = write(tmp_path / "mmproj-sees-f16.gguf", metadata=PROJECTOR)
    cards = {card.name: card for card in Directory(tmp_path).scan()}

    assert cards["sees-Q4_0:latest"].projector == str(projector)
    assert cards["sees-Q4_0:latest"].sees
    assert cards["blind:latest"].projector is None
    assert len(cards) == 2


def test_a_broken_projector_is_paired_with_nothing(tmp_path: Path) -> None:
    write(tmp_path / "sees.gguf")
    write(tmp_path / "mmproj-sees.gguf", metadata=PROJECTOR, cut=3)
    (card,) = Directory(tmp_path).scan()

    assert (card.projector, card.problem) == (None, None)
