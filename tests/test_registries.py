from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.registries import Registries, Registry

PUBLIC = "93.184.216.34"


def test_nothing_is_allowed_unless_it_is_named() -> None:
    nobody = Registries()

    assert nobody.scheme_of("registry.ollama.ai") is None
    assert not nobody.allow("https", "registry.ollama.ai", 443)
    assert not nobody.allow_address("localhost", "10.0.0.1")


@pytest.mark.parametrize(
    ("entry", "url", "allowed"),
    [
        ("registry.ollama.ai", ("https", "registry.ollama.ai", 443), True),
        ("registry.ollama.ai", ("https", "REGISTRY.ollama.ai", 443), True),
        ("registry.ollama.ai", ("http", "registry.ollama.ai", 80), False),
        ("registry.ollama.ai", ("https", "registry.ollama.ai", 5000), False),
        ("registry.ollama.ai", ("https", "registry.ollama.ai.evil.example", 443), False),
        ("registry.ollama.ai", ("https", "xregistry.ollama.ai", 443), False),
        ("r.example:5000", ("https", "r.example", 5000), True),
        ("r.example:5000", ("http", "r.example", 5000), False),
        ("http://127.0.0.1:5000", ("http", "127.0.0.1", 5000), True),
        ("http://127.0.0.1:5000", ("https", "127.0.0.1", 5000), False),
        ("http://127.0.0.1:5000", ("http", "127.0.0.1", 5001), False),
        ("*.r2.example.com", ("https", "abc.r2.example.com", 443), True),
        ("*.r2.example.com", ("https", "a.b.r2.example.com", 443), True),
        ("*.r2.example.com", ("https", "r2.example.com", 443), False),
        ("*.r2.example.com", ("https", "evilr2.example.com", 443), False),
    ],
)
def test_an_entry_allows_what_it_names(
    entry: str, url: tuple[str, str, int], allowed: bool
) -> None:
    assert Registries.parse([entry]).allow(*url) is allowed


@pytest.mark.parametrize(
    ("entries", "host", "scheme"),
    [
        (["registry.ollama.ai"], "registry.ollama.ai", "https"),
        (["http://127.0.0.1:5000"], "127.0.0.1:5000", "http"),
        (["127.0.0.1:5000"], "127.0.0.1:5000", "https"),
        (["http://127.0.0.1:5000"], "127.0.0.1", None),
        (["r.example"], "r.example:5000", None),
        (["r.example"], "r.example:", None),
        (["r.example"], "r.example:x", None),
        (["r.example"], "r.example:99999999999999", None),
        (["r.example"], "r.example:443:443", None),
    ],
)
def test_a_models_host_is_spoken_to_as_the_operator_says(
    entries: list[str], host: str, scheme: str | None
) -> None:
    assert Registries.parse(entries).scheme_of(host) == scheme


@pytest.mark.parametrize(
    "entry",
    ["", "http://r.example", "http://*.r.example:5000", "ftp://r.example", "r.example/v2", "*", "*.",
     "user@r.example", "r.example:0", "r.example:70000", "r example", "https://"],
)  # fmt: skip
def test_what_names_no_registry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        Registry.parse(entry)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.9", "169.254.169.254", "0.0.0.0", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
def test_a_name_leads_to_no_address_inside_unless_that_is_named_too(address: str) -> None:
    named = Registries.parse(["r.example"])

    assert not named.allow_address("r.example", address)
    assert named.allow_address("r.example", PUBLIC)


def test_an_address_that_is_named_may_be_inside() -> None:
    named = Registries.parse(["r.example", "10.0.0.5", "http://127.0.0.1:5000", "localhost:5001"])

    assert named.allow_address("r.example", "10.0.0.5")
    assert named.allow_address("127.0.0.1", "127.0.0.1")
    assert named.allow_address("localhost", "::1")
    assert not named.allow_address("r.example", "10.0.0.6")
    assert not named.allow_address("r.example", "::1")


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_it(entry: str, host: str) -> None:
    try:
        registries = Registries.parse([entry])
    except ValueError:
        registries = Registries()
    assert registries.scheme_of(host) in (None, "http", "https")
