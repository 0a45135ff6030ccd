"""What a service manager hears, and what it hands over."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import systemd
from tests.dialects.serving import wait_until
from tests.service_manager import ROOT, ServiceManager, service_manager

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
FAKE = "tests.serve_fake"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path) as manager:
        yield manager


def listener() -> socket.socket:
    """As the socket unit opens it: it outlives every process that serves it."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def url_of(opened: socket.socket) -> str:
    return f"http://127.0.0.1:{opened.getsockname()[1]}"


# ---- what it hears


def test_it_is_ready_when_the_api_answers_and_stopping_when_it_was_told_to(
    manager: ServiceManager,
) -> None:
    with listener() as opened:
        process = manager.start(FAKE, "short", listeners=(opened,))
        assert httpx.get(url_of(opened) + "/health/live", timeout=10).status_code == 200
        assert manager.assignments() == ["READY=1"]
        process.terminate()

        assert process.wait(20) == 0
    wait_until(lambda: manager.count("STOPPING=1") == 2)  # when told, and at its very end
    (extension,) = [a for a in manager.assignments() if a.startswith("EXTEND_TIMEOUT_USEC=")]
    # It may take its drain, and what comes before and after.
    assert int(extension.partition("=")[2]) > 60_000_000


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["short", "--host", "0.0.0.0"], 2),  # settings that cannot be honoured
        (["short", "--port", "TAKEN"], 3),  # no address to listen on
        (["doomed", "--port", "0"], 1),  # a start that fails when it serves already
        (["short", "--port", "0", "--listeners", "ollama=TAKEN"], 3),
        (["short", "--fd", "99"], 2),
        (["broken", "--port", "0"], 1),  # an exception that nobody thought of
    ],
    ids=["settings", "port", "late", "listener", "descriptor", "crash"],
)
def test_every_fatal_way_out_is_told_and_no_success(
    manager: ServiceManager, arguments: list[str], code: int
) -> None:
    with listener() as taken:
        port = str(taken.getsockname()[1])
        process = manager.start(FAKE, *(each.replace("TAKEN", port) for each in arguments))

        assert process.wait(30) == code
    wait_until(lambda: "STOPPING=1" in manager.assignments())


def test_the_event_loop_says_that_it_turns_and_a_blocked_one_is_silent(
    manager: ServiceManager,
) -> None:
    period = 2.0
    process = manager.start(FAKE, "blocking", "--port", "0", WATCHDOG_USEC=str(int(period * 1e6)))
    wait_until(lambda: manager.count("WATCHDOG=1") >= 3, 30)
    # SIGUSR2 blocks this fake's loop, for twice as long as the manager would wait.
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: manager.count("STATUS=unblocked") == 1, 30)

    blocked, free = (at(manager, f"STATUS={word}") for word in ("blocked", "unblocked"))
    pings = [when for when, line in manager.heard if line == "WATCHDOG=1"]
    assert free - blocked >= 2 * period
    assert [when for when in pings if blocked < when < free] == []
    wait_until(lambda: manager.heard[-1][1] == "WATCHDOG=1", 30)


def at(manager: ServiceManager, assignment: str) -> float:
    return next(when for when, line in manager.heard if line == assignment)


def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    systemd.ready()


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@test-{os.getpid()}")
        systemd.stopping()

        assert heard.recv(100) == b"STOPPING=1"


def test_a_reload_says_when_it_began_and_that_it_is_over_also_where_it_failed(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.address))
    before = time.monotonic_ns() // 1000
    with pytest.raises(ValueError), systemd.reloading():
        raise ValueError

    wait_until(lambda: len(manager.heard) == 3)
    first, began, last = manager.assignments()
    assert (first, last) == ("RELOADING=1", "READY=1")
    assert before <= int(began.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_sighup_is_a_reload(manager: ServiceManager) -> None:
    process = manager.start(FAKE, "short", "--port", "0")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.count("READY=1") == 2, 30)

    assert [line.partition("=")[0] for line in manager.assignments()] == [
        "READY",
        "RELOADING",
        "MONOTONIC_USEC",
        "READY",
    ]
    assert process.poll() is None


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # it watches somebody else
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_period_is_read(environment: dict[str, str], seconds: float | None) -> None:
    assert systemd.watchdog_seconds(environment) == seconds


# ---- what it hands over


def test_sockets_that_are_meant_for_another_process_are_left_alone() -> None:
    assert systemd.inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert systemd.inherited({}) == []


def test_what_cannot_be_listened_on_is_refused_by_its_number(tmp_path: Path) -> None:
    with socket.socket() as unbound, (tmp_path / "file").open("w") as file:
        for descriptor in (unbound.fileno(), file.fileno(), 999):
            with pytest.raises(systemd.NoSocket, match=str(descriptor)):
                systemd.inherited({}, descriptor)


def test_a_descriptor_can_be_named(manager: ServiceManager) -> None:
    with listener() as opened:
        process = subprocess.Popen(
            [sys.executable, "-m", FAKE, "short", "--fd", str(opened.fileno())],
            cwd=ROOT,
            pass_fds=[opened.fileno()],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(manager.address)},
        )
        manager.processes.append(process)
        wait_until(lambda: manager.count("READY=1") == 1, 60)

        assert httpx.post(url_of(opened) + PATH, json=CHAT, timeout=10).status_code == 200


def test_a_socket_that_others_reach_is_no_way_around_the_check_of_the_address(
    manager: ServiceManager, tmp_path: Path
) -> None:
    with listener() as near, socket.create_server(("0.0.0.0", 0)) as far:
        process = manager.start(FAKE, "short", listeners=(near, far))

        assert process.wait(30) == 2
    assert "0.0.0.0 can be reached from other machines" in (tmp_path / "log").read_text()


class Client(threading.Thread):
    """Asks one request after the other, on new connections or, as far as the server lets it, on
    one, until it is told to stop. It never tries a request twice."""

    def __init__(self, port: int, reuse: bool) -> None:
        super().__init__(daemon=True)
        self.port, self.reuse = port, reuse
        self.done = 0
        self.failures: list[str] = []
        self.longest = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stopped.is_set():
            connection = connection or http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=60
            )
            started = time.monotonic()
            try:
                keeps = self.ask(connection)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                keeps = False
            self.longest = max(self.longest, time.monotonic() - started)
            self.done += 1
            if not (keeps and self.reuse):
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> bool:
        connection.request("POST", PATH, json.dumps(CHAT), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or b"Hello there" not in body:
            self.failures.append(f"{answer.status} {body[:100]!r}")
        return not answer.will_close


def restarted(
    manager: ServiceManager, *command: str, restarts: int, requests: int, clients: int = 12
) -> list[Client]:
    """The clients of a service that was restarted under them, stopped and then started."""
    with listener() as opened:
        process = manager.start(*command, listeners=(opened,))
        port = opened.getsockname()[1]
        crowd = [Client(port, reuse=number % 2 == 0) for number in range(clients)]
        for client in crowd:
            client.start()
        for number in range(1, restarts + 1):
            wanted = number * requests / (restarts + 1)
            wait_until(partial(reached, crowd, wanted), 120)
            process.terminate()
            assert process.wait(60) == 0
            process = manager.start(*command, listeners=(opened,))
        wait_until(partial(reached, crowd, requests), 120)
        for client in crowd:
            client.stopped.set()
        for client in crowd:
            client.join(60)
    return crowd


def reached(crowd: list[Client], wanted: float) -> bool:
    return sum(client.done for client in crowd) >= wanted


def test_restarts_on_an_inherited_socket_fail_no_request(manager: ServiceManager) -> None:
    crowd = restarted(manager, FAKE, "short", restarts=2, requests=300)

    assert list(itertools.chain.from_iterable(client.failures for client in crowd)) == []
    assert min(client.done for client in crowd) >= 2  # each of them was there across a restart


def test_a_running_stream_ends_whole_while_new_ones_wait_for_the_next_process(
    manager: ServiceManager,
) -> None:
    answers: dict[str, Any] = {}

    def ask(name: str, url: str) -> None:
        answers[name] = httpx.post(url + PATH, json=CHAT, timeout=60)

    with listener() as opened:
        url = url_of(opened)
        first = manager.start(FAKE, "slow", listeners=(opened,))
        running = threading.Thread(target=ask, args=("running", url))
        running.start()
        wait_until(lambda: '"active_requests":1' in httpx.get(url + "/health").text)
        first.terminate()
        wait_until(lambda: manager.count("STOPPING=1") >= 1)
        late = threading.Thread(target=ask, args=("late", url))
        late.start()
        assert first.wait(20) == 0
        running.join(20)
        assert "late" not in answers
        manager.start(FAKE, "short", listeners=(opened,))
        late.join(30)

    assert answers["running"].json()["choices"][0]["message"]["content"] == "ab"
    assert answers["running"].headers["connection"] == "close"
    assert answers["late"].json()["choices"][0]["message"]["content"] == "Hello there"
