from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.caller import Scope
from service.access.keys import Key, KeyFileError, Keys, parse, presented

DIGEST = hashlib.sha256(b"llm-secret").hexdigest()


def line(text: str) -> Key:
    (key,) = parse(text).all
    return key


def wrong(text: str) -> str:
    with pytest.raises(KeyFileError) as caught:
        parse(text)
    return str(caught.value)


def test_a_line_is_a_key() -> None:
    key = line(
        f"ci inference,read sha256:{DIGEST} expires=2027-01-01T12:00:00+02:00 rpm=60 "
        "max_concurrent=4 models=Qwen*,demo  # of the build machine"
    )

    assert key == Key(
        "ci",
        frozenset({Scope.INFERENCE, Scope.READ}),
        bytes.fromhex(DIGEST),
        expires=1798797600.0,
        rpm=60,
        max_concurrent=4,
        models=("qwen*", "demo"),
    )


def test_a_day_begins_at_midnight_utc() -> None:
    assert line(f"a read sha256:{DIGEST} expires=2027-01-01").expires == 1798761600.0


def test_comments_and_empty_lines_are_no_keys() -> None:
    assert parse("# all of them\n\n   \n") == Keys(())


def test_every_bad_line_is_named_and_none_repeated() -> None:
    said = wrong(
        f"a inference\nb inference {DIGEST}\n\nc all sha256:{DIGEST}\nd read sha256:{DIGEST} "
        "rpm=0\nllm-canary read llm-canary"
    )

    assert [part.partition(":")[0] for part in said.split("; ")] == [
        "line 1", "line 2", "line 4", "line 5", "line 6",
    ]  # fmt: skip
    assert "canary" not in said
    assert DIGEST not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"local read sha256:{DIGEST}", "the name"),
        (f"a/b read sha256:{DIGEST}", "the name"),
        (f"{'a' * 65} read sha256:{DIGEST}", "the name"),
        (f"a grammar sha256:{DIGEST}", "grammar"),
        (f"a read,,admin sha256:{DIGEST}", "scopes are"),
        (f"a read sha256:{DIGEST.upper()}", "third word"),
        (f"a read sha256:{DIGEST[:63]}", "third word"),
        (f"a read sha256:{DIGEST} rps=1", "options are"),
        (f"a read sha256:{DIGEST} rpm=1 rpm=2", "twice"),
        (f"a read sha256:{DIGEST} rpm=-1", "must be 1 to"),
        (f"a read sha256:{DIGEST} expires=tomorrow", "expires"),
        (f"a read sha256:{DIGEST} models=", "models"),
        (f"a read,admin sha256:{DIGEST} models=x", "models"),
        (f"a read sha256:{DIGEST}\na read sha256:{'0' * 64}", "line 2: the name is there"),
        (f"a read sha256:{DIGEST}\nb read sha256:{DIGEST}", "line 2: the key is there"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, said: str) -> None:
    assert said in wrong(text)


def outcome(text: str) -> str:
    """`keys`, or what is wrong."""
    try:
        parse(text)
    except KeyFileError as error:
        return str(error)
    return "keys"


@given(st.text(max_size=200))
def test_any_text_is_keys_or_an_error_that_names_lines(text: str) -> None:
    assert outcome(text).startswith(("keys", "line "))


def test_a_key_is_found_by_its_digest_alone() -> None:
    other = hashlib.sha256(b"llm-other").hexdigest()
    keys = parse(f"a read sha256:{DIGEST}\nb admin sha256:{other}")

    assert [found and found.name for found in map(keys.find, (b"llm-secret", b"llm-other", b""))] == [
        "a", "b", None,
    ]  # fmt: skip


def test_each_key_is_compared_whichever_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def compare(a: bytes, b: bytes) -> bool:
        nonlocal compared
        compared += 1
        return a == b

    digests = [hashlib.sha256(bytes([n])).hexdigest() for n in range(5)]
    keys = parse("\n".join(f"k{n} read sha256:{digest}" for n, digest in enumerate(digests)))
    monkeypatch.setattr("service.access.keys.hmac.compare_digest", compare)
    counts = []
    for shown in (b"\x00", b"\x04", b"none"):
        compared = 0
        keys.find(shown)
        counts.append(compared)

    assert counts == [5, 5, 5]


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([(b"authorization", b"Bearer llm-x")], [b"llm-x"]),
        ([(b"authorization", b"bearer   llm-x ")], [b"llm-x"]),
        ([(b"authorization", basic("anyone:llm-x"))], [b"llm-x"]),
        ([(b"authorization", basic(":a:b"))], [b"a:b"]),
        ([(b"x-api-key", b"llm-x")], [b"llm-x"]),
        ([(b"authorization", b"Bearer a"), (b"x-api-key", b"b")], [b"a", b"b"]),
        ([(b"authorization", b"Basic !!")], [b""]),
        ([(b"authorization", b"Digest x")], []),
        ([(b"cookie", b"llm-x")], []),
    ],
)
def test_a_key_is_shown_in_three_ways(headers: Any, keys: list[bytes]) -> None:
    assert list(presented(headers)) == keys
