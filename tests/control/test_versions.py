"""Whatever happens to the files, a start is on the last version that is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.control.config import Version, fingerprint, made
from service.control.versions import KEPT, Start, Versions, started
from service.errors import StateNotWritten
from service.settings import Settings
from service.settings_sources import Given

ROOT = Path(__file__).parents[2]
TRUNCATIONS = 500
KILLS = 100


def version(number: int, **overrides: Any) -> Version:
    return Version(number, f"hash-{number}", 1_760_000_000.0 + number, "local", "test", overrides)


def keep(folder: Path, *versions: Version) -> Versions:
    kept = Versions(folder)
    for each in versions:
        kept.stage(each).commit()
    return kept


def begin(folder: Path, **said: Any) -> Start:
    return started(Given(command_line={"state_dir": folder, **said}), now=5.0)


def test_what_was_kept_comes_back_newest_first(tmp_path: Path) -> None:
    one, two = version(1), version(2, threads=3, aliases={"a": "b"})

    assert keep(tmp_path, one, two).read() == ([two, one], [])


def test_ten_are_kept(tmp_path: Path) -> None:
    found, _ = keep(tmp_path, *(version(number) for number in range(1, 26))).read()

    assert [each.number for each in found] == list(range(25, 25 - KEPT, -1))


def test_a_start_without_versions_is_on_what_was_said_at_start(tmp_path: Path) -> None:
    start = begin(tmp_path, threads=2)

    assert (start.version.number, start.version.why, start.settings.threads) == (1, "start", 2)
    assert start.version.hash == fingerprint(start.settings)
    assert start.problems == ()


def test_a_start_is_on_the_newest_version(tmp_path: Path) -> None:
    keep(tmp_path / "config", version(1), version(2, threads=7))
    start = begin(tmp_path, threads=2)

    assert (start.version.number, start.settings.threads) == (2, 7)


def test_a_version_that_can_not_be_honoured_any_more_is_passed_over_and_told(
    tmp_path: Path,
) -> None:
    keep(tmp_path / "config", version(1, threads=7), version(2, no_such_setting=1))
    start = begin(tmp_path)

    assert (start.version.number, start.settings.threads) == (1, 7)
    assert start.problems == (
        "version 2 cannot be honoured any more (no_such_setting: there is no such setting)",
    )


def test_500_truncations_and_flipped_bytes_never_keep_a_service_from_its_last_good_version(
    tmp_path: Path,
) -> None:
    chance = random.Random(11)
    folder = tmp_path / "config"
    keep(folder, version(1, threads=1), version(2, threads=2))
    newest = folder / "00000002.json"
    whole = newest.read_bytes()
    for _ in range(TRUNCATIONS):
        at = chance.randrange(len(whole) - 1)
        damaged = whole[:at]
        if chance.random() < 0.3:
            damaged = whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
        newest.write_bytes(damaged)
        start = begin(tmp_path)

        assert (start.version.number, start.settings.threads) == (1, 1)
        assert len(start.problems) == 1
        assert start.problems[0].startswith("00000002.json ")
    newest.write_bytes(whole)
    assert begin(tmp_path).settings.threads == 2


def test_where_all_is_damaged_the_next_version_does_not_take_a_damaged_ones_place(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "config"
    keep(folder, version(4))
    (folder / "00000004.json").write_bytes(b"")

    assert begin(tmp_path).version.number == 5


@pytest.mark.parametrize("made_of", ["folder", "link", "unreadable"])
def test_what_is_no_file_is_passed_over(tmp_path: Path, made_of: str) -> None:
    folder = tmp_path / "config"
    keep(folder, version(1, threads=1))
    newest = folder / "00000002.json"
    if made_of == "folder":
        newest.mkdir()
    elif made_of == "link":
        newest.symlink_to(newest)
    else:
        newest.write_bytes(b"{" * 3_000_000)

    assert begin(tmp_path).settings.threads == 1


def test_a_state_directory_that_cannot_be_read_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")

    assert begin(tmp_path).version.why == "start"


def test_a_kill_before_or_after_the_name_is_given_leaves_the_old_version_or_the_new_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "config"
    store = keep(folder, version(1, threads=1))
    expected = 1
    for number in range(2, 2 + KILLS):
        after = number % 3 == 0
        child = os.fork()
        if child == 0:
            die_while_writing(store, number, after=after)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        expected = number if after else expected
        start = begin(tmp_path)

        assert start.settings.threads == expected
        assert start.problems == ()
    keep(folder, version(1000))
    assert list(folder.glob("*.tmp")) == []


def die_while_writing(store: Versions, number: int, *, after: bool) -> None:
    staged = store.stage(version(number, threads=number))
    if after:
        os.replace(staged.draft, staged.target)
    os.kill(os.getpid(), signal.SIGKILL)


FULL = """
import resource, sys
from pathlib import Path
from service.control.config import Version
from service.control.versions import Versions
from service.errors import StateNotWritten

store = Versions(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    store.stage(Version(2, "h", 0.0, "local", "test", {"threads": 2})).commit()
except StateNotWritten as error:
    print(error.status, error.message)
"""


def test_a_full_disk_keeps_the_old_version_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    keep(folder, version(1, threads=1))
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    assert told == "507 The settings could not be kept on disk: File too large.\n"
    assert [path.name for path in folder.iterdir()] == ["00000001.json"]
    assert begin(tmp_path).settings.threads == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")

    with pytest.raises(StateNotWritten):
        Versions(tmp_path / "config").stage(version(1))


def test_the_hash_is_that_of_what_the_version_makes_now(tmp_path: Path) -> None:
    keep(tmp_path / "config", version(1, threads=1))
    given = Given(command_line={"state_dir": tmp_path, "queue_size": 9})

    assert started(given, 0.0).version.hash == fingerprint(made(given, {"threads": 1}))
    assert isinstance(started(given, 0.0).settings, Settings)
