from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.access.caller import EVERY, Caller
from service.control import audit_chain
from service.control.audit import REDACTED, Audit
from service.control.audit_chain import NAME, Chain, entries, fault, sealed, verified

SOMEBODY = Caller("ops", EVERY, "10.0.0.7")


def write(folder: Path, *actions: str, **settings: Any) -> None:
    audit = Audit(folder, clock=lambda: 1_760_000_000.25, **settings)
    for action in actions:
        audit.write(SOMEBODY, action, {"threads": (4, 8)}, "done", version=3)
    audit.close()


def test_a_line_says_who_changed_what_when_and_how_it_went(tmp_path: Path) -> None:
    write(tmp_path, "configure")

    (entry,) = entries(tmp_path)
    assert {key: entry[key] for key in entry if key not in ("prev", "hash")} == {
        "time": "2025-10-09T08:53:20.250Z",
        "key": "ops",
        "address": "10.0.0.7",
        "action": "configure",
        "changes": {"threads": [4, 8]},
        "result": "done",
        "version": 3,
    }


def test_only_the_service_can_read_the_file(tmp_path: Path) -> None:
    write(tmp_path, "configure")

    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    write(tmp_path, "c")

    found = verified(tmp_path)
    assert (found.lines, found.problems) == (3, ())
    assert [entry["action"] for entry in entries(tmp_path)] == ["a", "b", "c"]
    assert list(entries(tmp_path))[-1]["hash"] == found.last


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    one, other = Chain(tmp_path), Chain(tmp_path)
    for number in range(6):
        (one, other)[number % 2].append({"action": number})

    assert verified(tmp_path).problems == ()
    assert [entry["action"] for entry in entries(tmp_path)] == list(range(6))


def test_each_flipped_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    path = tmp_path / NAME
    whole = path.read_bytes()
    unseen = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if not verified(tmp_path).problems:
            unseen.append(place)

    assert unseen == []


def test_a_line_that_was_taken_out_is_found(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])

    assert verified(tmp_path).problems == (
        "audit.log line 2 does not follow on the line before it",
    )


def test_the_chain_runs_through_files_that_were_put_aside(tmp_path: Path) -> None:
    write(tmp_path, *(f"action {number}" for number in range(40)), most=1000)

    found = verified(tmp_path)
    assert found.problems == ()
    assert len(found.files) == audit_chain.KEPT_FILES + 1
    assert all(file.stat().st_size <= 1000 for file in found.files)
    # The oldest have gone, and none of those that are left.
    assert [e["action"] for e in entries(tmp_path)][-1] == "action 39"
    found.files[3].unlink()
    assert len(verified(tmp_path).problems) == 1


def test_the_chain_goes_on_from_a_file_that_has_just_been_put_aside(tmp_path: Path) -> None:
    write(tmp_path, "a")
    audit_chain.rotate(tmp_path / NAME)
    write(tmp_path, "b")

    assert verified(tmp_path).problems == ()


def test_half_a_line_that_a_crash_left_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-30])
    write(tmp_path, "c")

    assert verified(tmp_path).problems == ()
    assert [entry["action"] for entry in entries(tmp_path)] == ["a", "c"]


def test_a_full_disk_breaks_nothing_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full, lost, write = [True, True, False], [], os.write

    def half(file: int, data: bytes) -> int:
        if full.pop(0):
            write(file, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr(os, "write", half)
    audit = Audit(tmp_path, on_lost=lambda: lost.append(1))
    for action in "abc":
        audit.write(SOMEBODY, action, {}, "done")
    audit.close()

    assert len(lost) == 2
    (entry,) = entries(tmp_path)
    assert (entry["action"], entry["lost"]) == ("c", 2)
    assert verified(tmp_path).problems == ()
    assert "lost: No space left on device" in caplog.text


def test_a_folder_that_cannot_be_written_breaks_nothing(tmp_path: Path) -> None:
    lost: list[int] = []
    (tmp_path / "file").write_text("")
    write(tmp_path / "file", "a", on_lost=lambda: lost.append(1))

    assert lost == [1]


def test_secrets_are_not_written(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    changes: dict[str, tuple[Any, Any]] = {
        "price": (SecretStr("canary"), None),
        "hub_token": ("canary", "canary"),
        "models": ({"a": {"api_key": "canary"}}, {}),
        "max_tokens": (1, 2),
    }
    audit.write(SOMEBODY, "configure", changes, "done")
    audit.close()

    (entry,) = entries(tmp_path)
    assert "canary" not in (tmp_path / NAME).read_text()
    assert entry["changes"] == {
        "price": [REDACTED, None],
        "hub_token": [REDACTED, REDACTED],
        "models": [{"a": {"api_key": REDACTED}}, {}],
        "max_tokens": [1, 2],
    }


def test_each_hash_is_in_the_services_own_log_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write(tmp_path, "a")

    fields: Any = caplog.records[-1].__dict__["fields"]
    assert fields["audit_hash"] == verified(tmp_path).last


def test_nothing_written_is_an_empty_chain(tmp_path: Path) -> None:
    assert verified(tmp_path).lines == 0


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(0, 2**53) | st.text()),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)
def test_any_entry_is_one_line_that_verifies(entry: dict[str, Any], prev: str) -> None:
    line, own = sealed(entry, prev)

    assert line.count(b"\n") == 1
    assert fault(line[:-1], prev) is None
    assert fault(line[:-1], own) is not None
    assert msgspec.json.decode(line)["hash"] == own
