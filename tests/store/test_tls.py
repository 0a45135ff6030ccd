"""By HTTPS to the address that was checked, and all the same to the host that was named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.catalog import names
from service.errors import RegistryFailed
from service.registries import Registries
from service.store.gate import Gate
from service.store.registry import Repository
from tests.registry import PROGRAM, certify, registry

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no docker-registry")


async def patience(seconds: float) -> None: ...


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    certificate = certify(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with registry(tmp_path, certificate) as address:
        yield address.rpartition(":")[2]


async def test_a_certificate_is_held_against_the_hosts_name(port: str) -> None:
    registries = Registries.parse([f"localhost:{port}"])
    async with (
        Gate(registries) as gate,
        gate.send("GET", httpx.URL(f"https://localhost:{port}/v2/")) as response,
    ):
        assert response.status_code == 200


async def test_a_certificate_of_another_name_is_refused(port: str) -> None:
    registries = Registries.parse([f"127.0.0.1:{port}"])
    async with Gate(registries) as gate:
        name = names.parse(f"127.0.0.1:{port}/library/x")
        with pytest.raises(RegistryFailed, match="certificate verify failed"):
            await Repository(gate, registries, name, patience).manifest()


async def test_a_certificate_that_nobody_trusts_is_refused(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    registries = Registries.parse([f"localhost:{port}"])
    async with Gate(registries) as gate:
        name = names.parse(f"localhost:{port}/library/x")
        with pytest.raises(RegistryFailed, match="certificate verify failed"):
            await Repository(gate, registries, name, patience).manifest()
