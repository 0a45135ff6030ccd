"""Whether a file is another than it was."""

from __future__ import annotations

import os
from pathlib import Path

from service.followed_file import FollowedFile


def test_what_is_written_replaced_or_taken_away_is_seen_once_it_is_looked_at(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.yaml"
    followed = FollowedFile(lambda: path)
    assert not followed.changed()

    path.write_text("port: 1")
    assert followed.changed()
    followed.look()
    assert not followed.changed()

    path.write_text("port: 12")
    assert followed.changed()
    followed.look()

    other = tmp_path / "other"
    other.write_text("port: 34")
    os.replace(other, path)
    assert followed.changed()
    followed.look()

    path.unlink()
    assert followed.changed()


def test_no_file_never_changes() -> None:
    assert not FollowedFile(lambda: None).changed()
