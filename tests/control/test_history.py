from __future__ import annotations

from pathlib import Path

import pytest

from service.control.advice import Learned
from service.control.effects import Effect
from service.control.history import History, measured_here
from service.control.records import AnyRecord, Change, Dismissed, Judged
from service.errors import StateNotWritten

METRIC = "llm_time_per_output_token_seconds"


def change(id: str = "1") -> Change:
    return Change(
        at=1.0,
        id=id,
        by="local",
        why="advice:threads-physical",
        version=2,
        previous=1,
        config_hash="abc",
        changed={"threads": (16, 2)},
        metric=METRIC,
        direction="down",
        rule="threads-physical",
    )


def judged(id: str, ratio: float, **others: object) -> Judged:
    values = {
        "at": 2.0,
        "change": id,
        "verdict": "improved",
        "final": True,
        "metric": METRIC,
        "direction": "down",
        "hardware": "A CPU",
        "effects": {METRIC: Effect(ratio, ratio - 0.1, ratio + 0.1, 40, 40, 1)},
        "rule": "threads-physical",
    }
    return Judged(**values | others)  # type: ignore[arg-type]


def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path)
    added: list[AnyRecord] = [change(), judged("1", 0.8), Dismissed(3.0, "slots-up", "local")]
    for record in added:
        history.add(record)

    again = History(tmp_path)
    assert again.records() == added
    assert again.verdict("1") == judged("1", 0.8)
    assert again.skipped == 0


def test_a_line_that_was_cut_costs_itself_only(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(change("1"))
    history.add(change("2"))
    path = tmp_path / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    cut = History(tmp_path)
    cut.add(change("3"))

    again = History(tmp_path)
    assert [record.id for record in again.records() if isinstance(record, Change)] == ["1", "3"]
    assert again.skipped == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff\xfe\x00",
        b"{}",
        b'{"kind":"tomorrows"}',
        b"[" * 100_000,
        b'{"kind":"change","at":"x"}',
    ],
)
def test_what_nobody_can_read_is_skipped_and_counted(tmp_path: Path, rubbish: bytes) -> None:
    history = History(tmp_path)
    history.add(change("1"))
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(rubbish + b"\n")
    history.add(change("2"))

    again = History(tmp_path)
    assert len(again.records()) == 2
    assert again.skipped >= 1


def test_a_long_history_takes_a_bounded_place_and_keeps_what_is_in_force(tmp_path: Path) -> None:
    history = History(tmp_path, most=4096)
    history.add(Dismissed(0.0, "slots-up", "local"))
    for n in range(200):
        history.add(change(str(n)))

    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"history.jsonl", "history.1.jsonl"}
    assert all(size < 5000 for size in sizes.values())
    again = History(tmp_path)
    assert change("199") in again.records()
    assert set(again.dismissed(now=1.0)) == {"slots-up"}


def test_what_is_dismissed_until_a_time_comes_back_then(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Dismissed(0.0, "slots-up", "local", until=100.0))
    history.add(Dismissed(0.0, "batch-up", "local"))

    assert set(history.dismissed(now=99.0)) == {"slots-up", "batch-up"}
    assert set(history.dismissed(now=101.0)) == {"batch-up"}
    history.add(Dismissed(102.0, "batch-up", "local", until=102.0))
    assert history.dismissed(now=103.0) == {}


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file where a folder should be")
    history = History(tmp_path / "history" / "optimization")

    with pytest.raises(StateNotWritten):
        history.add(change())
    assert history.records() == [change()]


def test_what_a_rule_did_here_is_learned(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.learned("threads-physical", "A CPU") is None
    for n, ratio in enumerate((0.5, 0.8, 0.9)):
        history.add(judged(str(n), 0.1, final=False, verdict="neutral"))
        history.add(judged(str(n), ratio))
    history.add(judged("3", 9.0, confounded_by="4"))
    history.add(judged("5", 9.0, hardware="Another CPU"))
    history.add(judged("6", 9.0, rule="slots-up"))
    history.add(judged("7", 9.0, effects={}))

    learned = history.learned("threads-physical", "A CPU")

    assert learned == Learned(METRIC, 0.8, 3)
    assert measured_here(learned) == "measured here: -20 % (3 applications)"
    assert measured_here(Learned(METRIC, 1.12, 1)) == "measured here: +12 % (1 application)"
    assert measured_here(None) == "not measured on this machine"
