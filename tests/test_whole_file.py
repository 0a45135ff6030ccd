"""Files are replaced whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.whole_file import write_whole


@pytest.mark.parametrize("lasting", [True, False])
def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(
    tmp_path: Path, lasting: bool
) -> None:
    path = tmp_path / "state.json"
    write_whole(path, b"before", lasting=lasting)
    with path.open("rb") as reading:
        write_whole(path, b"after", lasting=lasting)
        assert reading.read() == b"before"

    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"after")

    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_somebody_else_laid_there_is_not_written_to(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "state.json", b"after", draft=draft)

    assert not (tmp_path / "elsewhere").exists()
