"""Every client, at every path that it can be pointed at, in every thing that it can do."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.clients.catalog import CLIENTS, Client
from tests.clients.probing import COLUMNS, Outcome
from tests.clients.run import python_of, run
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

Outcomes = Callable[[Client], list[Outcome]]


# `make test-clients` sets it: those too that `make test` has no environment for.
EVERY = os.environ.get("EVERY_CLIENT", "") != ""


CASES = [
    pytest.param(client, mount, column, id=f"{client.name} {mount} {column}")
    for client in CLIENTS
    if client.always or EVERY
    for mount, column in product(client.mounts, COLUMNS)
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("no-models")) as running:
        yield running


@pytest.fixture(scope="module")
def outcomes(running: Service, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """A client is started once, for all of its cases."""
    home: Path = tmp_path_factory.mktemp("home")
    return functools.cache(lambda client: run(client, running.url, home))


@pytest.mark.parametrize(("client", "mount", "column"), CASES)
def test_a_client_gets_what_it_asks_for(
    outcomes: Outcomes, client: Client, mount: str, column: str
) -> None:
    if not python_of(client).exists():
        pytest.skip(f"make installs {client.name}, as a part of the targets that test clients")
    (outcome,) = [o for o in outcomes(client) if (o.mount, o.column) == (mount, column)]

    assert outcome.client == client.name
    assert outcome.version
    assert outcome.result != "failed", outcome.why
