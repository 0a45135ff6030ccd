from __future__ import annotations

import errno
from pathlib import Path

import pytest

from service.catalog.directory import Directory
from service.catalog.gguf import read_header
from service.catalog.gguf_header import Header, Keeping
from tests.catalog.gguf_files import METADATA, write


def names(root: Path) -> list[str]:
    return [card.name for card in Directory(root).scan()]


def test_files_are_found_at_any_depth_nearest_first(tmp_path: Path) -> None:
    write(tmp_path / "sub/deeper/Third.gguf")
    write(tmp_path / "sub/second.GGUF")
    write(tmp_path / "zeroth.gguf")
    write(tmp_path / "first.gguf")
    (tmp_path / "notes.txt").write_text("not a model")

    assert names(tmp_path) == ["first:latest", "zeroth:latest", "second:latest", "Third:latest"]


def test_a_card_is_read_from_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf")
    (card,) = Directory(tmp_path).scan()

    assert card.path == str(path)
    assert card.architecture == "llama"
    assert card.context_length == 8192
    assert card.quantization == "Q4_K_M"
    assert card.parameter_count == 64 * 4 + 64 * 64
    assert card.size_bytes == path.stat().st_size
    assert card.modified == path.stat().st_mtime
    assert card.chat_template is not None
    assert card.problem is None
    assert card.aliases == ("Qwen2.5-0.5B-Instruct:Q4_K_M",)


def test_hidden_files_projectors_and_dangling_links_are_no_models(tmp_path: Path) -> None:
    write(tmp_path / ".hidden.gguf")
    write(tmp_path / ".cache/model.gguf")
    write(tmp_path / "mmproj-model.gguf")
    write(tmp_path / "vision.gguf", metadata={**METADATA, "general.architecture": "clip"})
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "nowhere")

    assert names(tmp_path) == []


def test_a_split_model_is_one_card_of_its_first_shard(tmp_path: Path) -> None:
    metadata = {**METADATA, "split.count": 3}
    for number in (3, 1, 2):
        write(tmp_path / f"big-0000{number}-of-00003.gguf", metadata=metadata)

    (card,) = Directory(tmp_path).scan()

    assert card.name == "big:latest"
    assert card.path.endswith("big-00001-of-00003.gguf")
    assert card.parameter_count == 3 * (64 * 4 + 64 * 64)
    assert card.size_bytes == 3 * Path(card.path).stat().st_size
    assert card.problem is None


def test_a_missing_shard_is_a_problem(tmp_path: Path) -> None:
    for number in (1, 3):
        write(tmp_path / f"big-0000{number}-of-00003.gguf")

    (card,) = Directory(tmp_path).scan()

    assert card.problem == "shard 2 of 3 is missing"


def test_a_shard_that_lost_its_number_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "renamed.gguf", metadata={**METADATA, "split.count": 2})

    (card,) = Directory(tmp_path).scan()

    assert card.problem == "is one of 2 shards, by its header, not of 1"


def test_bad_files_are_cards_with_a_reason_and_hide_no_good_one(tmp_path: Path) -> None:
    write(tmp_path / "good.gguf")
    write(tmp_path / "cut.gguf", cut=7)
    write(tmp_path / "vocabulary.gguf", tensors={})
    write(tmp_path / "lora.gguf", metadata={**METADATA, "general.type": "adapter"})
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "web.gguf").write_text("<html>404 Not Found, and a long page about it</html>")

    problems = {card.name: card.problem for card in Directory(tmp_path).scan()}

    assert problems == {
        "good:latest": None,
        "cut:latest": "the file ends 7 bytes before its last tensor does",
        "vocabulary:latest": "holds no weights",
        "lora:latest": "is not a model but an adapter",
        "empty:latest": "not a GGUF file",
        "web:latest": "not a GGUF file",
    }


def test_a_file_without_permission_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "locked.gguf")
    shelf = Directory(tmp_path)

    def denied(*_: object) -> Header:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as locked:
        locked.setattr("service.catalog.gguf_file.read_header", denied)
        assert [card.problem for card in shelf.scan()] == ["cannot be read: Permission denied"]
    assert [card.problem for card in shelf.scan()] == [None]


def test_a_header_is_read_again_only_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def counted(path: Path, keeping: Keeping) -> Header:
        reads.append(path)
        return read_header(path, keeping)

    monkeypatch.setattr("service.catalog.gguf_file.read_header", counted)
    path = write(tmp_path / "a.gguf")
    shelf = Directory(tmp_path)

    shelf.scan()
    shelf.scan()
    assert len(reads) == 1

    write(path, cut=1)
    assert shelf.scan()[0].problem is not None
    assert len(reads) == 2


def test_file_names_become_names_that_fit_into_urls_and_labels(tmp_path: Path) -> None:
    write(tmp_path / 'my "model" <b>\n:1.gguf')

    assert names(tmp_path) == ["my-model-b-1:latest"]


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert names(tmp_path / "nowhere") == []
