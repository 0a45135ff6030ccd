from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from service.errors import Forbidden, RegistryFailed, ServiceError
from tests.store.fake_registry import HOST, PUBLIC, FakeRegistry, status

URL = httpx.URL(f"https://{HOST}/v2/")


def answering(*addresses: str) -> Callable[..., object]:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


async def test_a_connection_is_made_to_the_address_that_was_looked_at() -> None:
    registry = FakeRegistry([])
    async with registry.gate() as gate, gate.send("GET", URL) as response:
        assert response.status_code == 404

    (asked,) = registry.asked
    assert (asked.url.host, asked.headers["host"]) == (PUBLIC, HOST)
    assert asked.extensions["sni_hostname"] == HOST
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "url",
    ["https://other.example/v2/", "http://r.example/v2/", "https://r.example:444/v2/",
     "https://127.0.0.1/", "https://user:secret@r.example/v2/", "file:///etc/passwd", "https:///x",
     "https://r.example.evil.example/", "https://[::1]/", "https://0x7f.1/"],
)  # fmt: skip
async def test_no_other_host_is_spoken_to(url: str) -> None:
    registry = FakeRegistry([])
    async with registry.gate() as gate:
        with pytest.raises(Forbidden):
            async with gate.send("GET", httpx.URL(url)):
                pass
    assert registry.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
async def test_a_name_that_leads_inwards_is_not_followed(address: str) -> None:
    registry = FakeRegistry([])
    async with registry.gate(resolve=answering(address)) as gate:
        with pytest.raises(Forbidden, match="not public"):
            async with gate.send("GET", URL):
                pass
    assert registry.asked == []


async def test_of_several_addresses_one_that_is_allowed_is_taken() -> None:
    registry = FakeRegistry([])
    async with (
        registry.gate(resolve=answering("10.0.0.1", PUBLIC)) as gate,
        gate.send("GET", URL),
    ):
        pass
    assert registry.asked[0].url.host == PUBLIC


async def test_a_redirect_leads_to_hosts_that_are_named_alone() -> None:
    registry = FakeRegistry([], [status(307, location="https://cdn.example/blob")])
    async with registry.gate() as gate:
        with pytest.raises(Forbidden, match=r"https://cdn\.example:443 is not among"):
            async with gate.send("GET", URL):
                pass
    assert len(registry.asked) == 1


async def test_what_proves_who_we_are_is_not_shown_to_another_host() -> None:
    registry = FakeRegistry(
        [],
        [status(307, location="/elsewhere"), status(302, location="https://a.cdn.example/blob")],
    )
    async with (
        registry.gate("*.cdn.example") as gate,
        gate.send("GET", URL, {"Authorization": "Bearer x"}) as response,
    ):
        assert response.extensions["asked"] == httpx.URL("https://a.cdn.example/blob")

    shown = [(r.headers["host"], r.headers.get("authorization")) for r in registry.asked]
    assert shown == [(HOST, "Bearer x"), (HOST, "Bearer x"), ("a.cdn.example", None)]


async def test_redirects_end() -> None:
    registry = FakeRegistry([], [status(302, location="/again")] * 20)
    async with registry.gate() as gate:
        with pytest.raises(RegistryFailed, match="circles"):
            async with gate.send("GET", URL):
                pass
    assert len(registry.asked) == 6


@pytest.mark.parametrize("location", ["https://[", "\x00", "http://r.example:5000000/"])
async def test_a_redirect_to_nonsense_is_the_registrys_failure(location: str) -> None:
    registry = FakeRegistry([], [status(302, location=location)])
    async with registry.gate() as gate:
        with pytest.raises((ServiceError, httpx.TransportError)):
            async with gate.send("GET", URL):
                pass


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    registry = FakeRegistry([])
    async with registry.gate() as gate, gate.send("GET", URL) as response:
        assert response.status_code == 404
