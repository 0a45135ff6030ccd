from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from service.access import key_file
from service.access.key_file import KeyFile
from service.access.keys import KeyFileError

A, B = (f"{name} inference sha256:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in "ab")


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600"):
        KeyFile(put(tmp_path / "keys", A, mode))


def test_one_that_nobody_may_write_is_not(tmp_path: Path) -> None:
    assert KeyFile(put(tmp_path / "keys", A, 0o400)).keys.names == ["a"]


def test_systemd_shuts_the_folder_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "api-keys", A, 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert KeyFile(tmp_path / "api-keys").keys.names == ["a"]


@pytest.mark.parametrize("text", [None, "a inference", "\x00" * (1024 * 1024 + 1)])
def test_a_file_that_is_not_right_at_start_stops_it(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        put(tmp_path / "keys", text)
    with pytest.raises(KeyFileError, match="keys"):
        KeyFile(tmp_path / "keys")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        KeyFile(tmp_path)


def test_a_bad_file_leaves_the_keys_as_they_are_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(put(tmp_path / "keys", A))
    told = []
    file.listen(lambda before, after, problem: told.append((before.names, after.names, problem)))
    put(tmp_path / "keys", B + "broken llm-canary\n")

    assert not file.reload()
    assert file.keys.names == ["a"]
    assert file.problem is not None
    assert "line 2" in caplog.text
    assert "canary" not in caplog.text
    put(tmp_path / "keys", B)
    assert file.reload()
    assert [(before, after) for before, after, _ in told] == [(["a"], ["a"]), (["a"], ["b"])]
    assert file.problem is None


async def test_what_changes_in_the_file_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "POLL_SECONDS", 0.001)
    file = KeyFile(put(tmp_path / "keys", A))
    changed = asyncio.Event()
    file.listen(lambda before, after, problem: changed.set())
    watching = asyncio.create_task(file.watch())
    seen = []
    for change in (
        lambda: put(tmp_path / "keys", A + B),
        lambda: os.chmod(tmp_path / "keys", 0o644),
        lambda: os.unlink(tmp_path / "keys"),
        lambda: put(tmp_path / "keys", B),
    ):
        change()
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        seen.append((file.keys.names, file.problem is None))
    watching.cancel()

    # Each was looked at twice before it counted.
    assert seen == [(["a", "b"], True), (["a", "b"], False), (["a", "b"], False), (["b"], True)]


async def test_a_file_that_is_being_written_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at as often as the test says, and is another one each time but the last."""
    path = put(tmp_path / "keys", A)
    file = KeyFile(path)
    looks = iter([(1,), (2,), (3,), (3,)])
    done = asyncio.Event()
    reloaded: list[list[str]] = []
    file.listen(lambda before, after, problem: reloaded.append(after.names))

    def look(path: Path) -> tuple[int, ...] | None:
        found = next(looks, None)
        if found is None:
            done.set()
        return found or file._signature

    monkeypatch.setattr(key_file, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(key_file, "signature", look)
    watching = asyncio.create_task(file.watch())
    put(path, A + B)
    await asyncio.wait_for(done.wait(), 10)
    watching.cancel()

    assert reloaded == [["a", "b"]]
