"""The service's own thread waits for a processor; an engine does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from service.processor import yield_to_engines
from tests.service_process import service


def policy_of_a_thread_that_yields() -> int:
    found: list[int] = []

    def run() -> None:
        yield_to_engines()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_the_service_yields_and_its_engine_does_not(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        (engine,) = running.engines()
        policies = [os.sched_getscheduler(pid) for pid in (running.process.pid, engine.pid)]

    assert policies == [os.SCHED_BATCH, os.SCHED_OTHER]


def test_where_it_is_not_allowed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert policy_of_a_thread_that_yields() == os.SCHED_BATCH
    monkeypatch.setattr(os, "sched_setscheduler", refused)
    assert policy_of_a_thread_that_yields() == os.SCHED_OTHER
