from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from service import cli
from service.access.caller import EVERY, Caller
from service.commands import audit
from service.control.audit import Audit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    audit = Audit(tmp_path, clock=lambda: 1_760_000_000.0)
    audit.write(Caller("ops", EVERY, "10.0.0.7"), "configure", {"threads": (4, None)}, "done", 3)
    audit.write(Caller("", EVERY, ""), "pull", {"model": (None, "a\x1b[31mb")}, "forbidden")
    audit.close()
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, list[str]]:
    out = StringIO()
    code = audit.main(["--state-dir", str(folder), *words], out)
    return code, out.getvalue().splitlines()


def test_what_was_changed_is_shown_a_line_each(folder: Path) -> None:
    first = "2025-10-09T08:53:20.000Z ops from 10.0.0.7: configure threads: 4 → –, done (version 3)"
    second = "2025-10-09T08:53:20.000Z (nobody): pull model: – → a\\x1b[31mb, forbidden"

    assert run(folder, "show") == run(folder) == (0, [first, second])
    assert run(folder, "show", "--last", "1") == (0, [second])


def test_a_whole_record_is_said_to_be_whole(folder: Path) -> None:
    code, (said,) = run(folder, "verify")

    assert code == 0
    assert said.startswith("2 lines in 1 files, whole; the last is ")


def test_a_changed_one_is_not(folder: Path) -> None:
    path = folder / "audit.log"
    path.write_bytes(path.read_bytes().replace(b"10.0.0.7", b"10.0.0.8"))
    code, said = run(folder, "verify")

    assert code == 1
    assert said[0] == "audit.log line 1 is not as it was written"


def test_it_is_found_in_the_settings_state_dir(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLM_STATE_DIR", str(folder))

    assert cli.main(["audit", "verify"]) == 0
    assert "2 lines" in capsys.readouterr().out


def test_what_cannot_be_read_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.log").unlink()
    (folder / "audit.log").mkdir()

    assert run(folder, "verify")[0] == 1
    assert "Is a directory" in capsys.readouterr().err
