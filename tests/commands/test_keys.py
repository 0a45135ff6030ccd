from __future__ import annotations

import hashlib
import re
import stat
import threading
from io import StringIO
from pathlib import Path

import pytest

from service import cli
from service.access.caller import Scope
from service.access.key_file import read
from service.commands import keys
from tests.key_files import line, put


def run(path: Path, *words: str) -> str:
    out = StringIO()
    assert keys.main(["--file", str(path), *words], out) == 0
    return out.getvalue()


def refused(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> str:
    assert keys.main(["--file", str(path), *words], StringIO()) == 1
    return capsys.readouterr().err


def test_a_key_is_shown_once_and_its_digest_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = run(
        path, "add", "ci", "--scope", "inference,read", "--rpm", "60", "--models", "qwen*"
    ).strip()

    assert re.fullmatch(r"llm-[A-Za-z0-9_-]{43}", key)
    (made,) = read(path).all
    assert (made.name, made.scopes, made.rpm, made.models) == (
        "ci", frozenset({Scope.INFERENCE, Scope.READ}), 60, ("qwen*",),
    )  # fmt: skip
    assert made.digest == hashlib.sha256(key.encode()).digest()
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_differ(tmp_path: Path) -> None:
    keys = {run(tmp_path / "keys", "add", f"k{n}", "--scope", "read") for n in range(5)}

    assert len(keys) == 5


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    path = put(tmp_path / "keys", "# ours", line("a", "read"), "", line("b", "admin"))
    run(path, "add", "c", "--scope", "metrics")
    assert run(path, "remove", "a") == "removed a\n"

    assert path.read_text().startswith(f"# ours\n\n{line('b', 'admin')}\nc metrics sha256:")


def test_the_list_has_no_digest(tmp_path: Path) -> None:
    path = put(
        tmp_path / "keys",
        line("a", "read,admin", expires="2020-01-01"),
        line("b", "inference", rpm=5),
    )

    assert run(path, "list").splitlines() == [
        "NAME  SCOPES      EXPIRES                  RPM  CONCURRENT  MODELS",
        "a     admin,read  2020-01-01 00:00 (over)",
        "b     inference                            5",
    ]
    assert run(path) == run(path, "list")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "a", "--scope", "read"), "there is a key of the name a"),
        (("add", "b", "--scope", "everything"), "scopes are"),
        (("add", "b", "--scope", "read", "--rpm", "0"), "must be 1 to"),
        (("add", "b", "--scope", "read", "--expires", "2027-01-01 12:00"), "spaces"),
        (("add", "b#", "--scope", "read"), "`#`"),
        (("remove", "b"), "there is no key of the name b"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    path = put(tmp_path / "keys", line("a", "read"))
    before = path.read_bytes()

    assert said in refused(capsys, path, *words)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_wrong_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "keys", "broken")

    assert "line 1" in refused(capsys, path, "add", "a", "--scope", "read")
    assert path.read_text() == "broken\n"


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, tmp_path / "none" / "keys", "add", "a", "--scope", "read")

    assert "none: No such file" in said


def test_two_who_add_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    threads = [
        threading.Thread(target=run, args=(path, "add", f"k{n}", "--scope", "read"))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(read(path).all) == 8


def test_the_file_is_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert cli.main(["keys", "list"]) == 1
    assert "api_keys_file" in capsys.readouterr().err
    monkeypatch.setenv("LLM_API_KEYS_FILE", str(put(tmp_path / "keys", line("a", "read"))))
    assert cli.main(["keys", "list"]) == 0
    assert "a     read" in capsys.readouterr().out
