"""Two services behind the real HAProxy with the configuration as it is delivered."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import httpx
import pytest

from tests.balancer import free_port, haproxy, up
from tests.dialects.serving import wait_until
from tests.service_manager import ServiceManager, service_manager
from tests.test_systemd import CHAT, PATH, Client, reached

FAKE = "tests.serve_fake"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path) as manager:
        yield manager


def crowd_of(port: int, clients: int = 8) -> list[Client]:
    crowd = [Client(port, reuse=number % 2 == 0) for number in range(clients)]
    for client in crowd:
        client.start()
    return crowd


def failures(crowd: list[Client]) -> list[str]:
    for client in crowd:
        client.stopped.set()
    for client in crowd:
        client.join(60)
    return list(chain.from_iterable(client.failures for client in crowd))


def test_a_stream_comes_through_whole_and_as_it_is_made(manager: ServiceManager) -> None:
    ports = [free_port(), free_port()]
    for port in ports:
        manager.spawn(FAKE, "slow", "--port", str(port))
    with haproxy(*ports) as (front, _):
        url = f"http://127.0.0.1:{front}{PATH}"
        with httpx.stream("POST", url, json={**CHAT, "stream": True}, timeout=30) as answer:
            chunks = answer.iter_text()
            text = ""
            # "b" is made two seconds after "a": who waits for it has not been given "a" before.
            while '"a"' not in text:
                text += next(chunks)
            assert '"b"' not in text
            text += "".join(chunks)

    assert "[DONE]" in text


def test_a_service_that_is_killed_fails_no_new_request(manager: ServiceManager) -> None:
    ports = [free_port(), free_port()]
    victim, _ = (manager.spawn(FAKE, "short", "--port", str(port)) for port in ports)
    with haproxy(*ports) as (front, metrics):
        crowd = crowd_of(front)
        wait_until(partial(reached, crowd, 60), 60)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        wait_until(partial(up, metrics, 1), 30)
        wait_until(partial(reached, crowd, sum(client.done for client in crowd) + 60), 60)
        found = failures(crowd)
        # Of what was on it when it died, an answer may have been cut in the middle.
        assert [each for each in found if "503" in each] == []
        assert len(found) <= len(crowd)

        # Whoever comes once it is known to be gone notices nothing; and it is taken back.
        crowd = crowd_of(front)
        wait_until(partial(reached, crowd, 60), 60)
        manager.spawn(FAKE, "short", "--port", str(ports[0]))
        wait_until(partial(up, metrics, 2), 30)
        assert failures(crowd) == []


def test_one_after_the_other_is_restarted_and_no_request_fails(manager: ServiceManager) -> None:
    ports = [free_port(), free_port()]
    arguments = [(FAKE, "short", "--port", str(port), "--drain-delay", "2") for port in ports]
    processes = [manager.spawn(*each) for each in arguments]
    with haproxy(*ports) as (front, metrics):
        crowd = crowd_of(front)
        for process, command in zip(processes, arguments, strict=True):
            wait_until(partial(reached, crowd, sum(client.done for client in crowd) + 40), 60)
            process.terminate()
            assert process.wait(60) == 0
            manager.spawn(*command)
            wait_until(partial(up, metrics, 2), 60)

        assert failures(crowd) == []
