from __future__ import annotations

import asyncio
import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from service.dialects import body
from service.dialects.body import ClientGone, parse_object, read_object
from service.errors import InvalidRequest


def chunks(*parts: bytes, ends: bool = True) -> Any:
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages.append({"type": "http.request"} if ends else {"type": "http.disconnect"})
    sent = iter(messages)

    async def receive() -> Message:
        return next(sent)

    return receive


def scope(**headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }


async def test_a_body_in_pieces_is_one_object() -> None:
    assert await read_object(scope(), chunks(b'{"a"', b": [1]}"), 100) == {"a": [1]}


async def test_the_content_type_does_not_matter() -> None:
    form = scope(content_type="application/x-www-form-urlencoded")

    assert await read_object(form, chunks(b'{"a": 1}'), 100) == {"a": 1}


async def test_a_body_over_the_limit_is_refused_before_it_is_all_there() -> None:
    with pytest.raises(HTTPException) as caught:
        await read_object(scope(), chunks(b"x" * 60, b"x" * 60, ends=False), 100)

    assert caught.value.status_code == 413


async def test_a_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(HTTPException) as caught:
        await read_object(scope(content_length="101"), chunks(), 100)

    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
async def test_a_compressed_body_is_read(coding: str, compress: Callable[[bytes], bytes]) -> None:
    text = compress(b'{"a": [1, "' + b"x" * 80 + b'"]}')

    for pieces in ([text], [text[at : at + 1] for at in range(len(text))]):
        read = await read_object(scope(content_encoding=coding.upper()), chunks(*pieces), 100)
        assert read == {"a": [1, "x" * 80]}


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip, gzip", "compress", "\x00"])
async def test_another_coding_is_refused_with_those_that_are_accepted(coding: str) -> None:
    with pytest.raises(HTTPException) as caught:
        await read_object(scope(content_encoding=coding), chunks(b"x"), 100)

    assert caught.value.status_code == 415
    assert "gzip" in caught.value.detail
    assert caught.value.headers == {"Accept-Encoding": "gzip, deflate"}


async def test_no_more_is_decompressed_than_a_body_may_be_long() -> None:
    packing = zlib.compressobj(wbits=31)
    bomb = b"".join(packing.compress(bytes(1 << 20)) for _ in range(128)) + packing.flush()
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(HTTPException) as caught:
            await read_object(scope(content_encoding="gzip"), chunks(bomb), limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.status_code == 413
    assert len(bomb) < limit
    assert peak < 8 * limit


async def test_a_body_that_stays_longer_than_it_may_be_however_it_is_compressed_is_refused() -> (
    None
):
    noise = gzip.compress(random.Random(1).randbytes(200))
    with pytest.raises(HTTPException) as caught:
        await read_object(scope(content_encoding="gzip"), chunks(noise[:150], noise[150:]), 199)

    assert caught.value.status_code == 413


async def test_what_says_nothing_for_ever_is_refused() -> None:
    """Blocks without content: nothing comes of them, however many arrive."""
    empty = zlib.compressobj()
    blocks = [empty.flush(zlib.Z_FULL_FLUSH) + b"\x00\x00\x00\xff\xff" * 8 for _ in range(20)]
    with pytest.raises(HTTPException) as caught:
        await read_object(scope(content_encoding="deflate"), chunks(*blocks, ends=False), 100)

    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1}', gzip.compress(b'{"a": 1}')[:-1], gzip.compress(b'{"a": 1}') + b"x",
     gzip.compress(b'{"a": 1}')[:-8] + bytes(8), gzip.compress(b""), b"", b"\x1f\x8b"],
)  # fmt: skip
async def test_what_is_wrongly_compressed_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read_object(scope(content_encoding="gzip"), chunks(text), 100)


async def test_a_client_that_leaves_meanwhile_is_gone() -> None:
    with pytest.raises(ClientGone):
        await read_object(scope(), chunks(b"{", ends=False), 100)


async def test_a_body_that_does_not_arrive_in_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "READ_SECONDS", 0.02)

    async def receive() -> Message:
        await asyncio.sleep(10)
        raise AssertionError

    with pytest.raises(HTTPException) as caught:
        await read_object(scope(), receive, 100)

    assert caught.value.status_code == 408


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  \n",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{",
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800\\ud800"}',
        b'{"a":"\\udc00"}',
        b'{"a":"\n"}',
        b"\xef\xbb\xbf{}",
        b"\x00",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"c":2,"b":3}}',
        b'[{"a":1,"a":1}]',
        b'{"a":18446744073709551616}',
        b'{"a":-9223372036854775809}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"a":' * 64 + b"{}" + b"}" * 64,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 1_000_000,
        b'{"a":[' + b"[]," * 100_000 + b"[]]}",
    ],
    ids=lambda text: repr(text[:24])[2:-1],
)
def test_what_parsers_disagree_about_is_refused(text: bytes) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        parse_object(text)

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":"\\"a\\":1, \\\\", "b":":"}', {"a": '"a":1, \\', "b": ":"}),
        (b'{"a":18446744073709551615}', {"a": 2**64 - 1}),
        (b'{"a":-9223372036854775808}', {"a": -(2**63)}),
        (b'{"a":0.12345678901234567890123}', {"a": 0.12345678901234568}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":' + b"[" * 63 + b"]" * 63 + b"}", None),
        (b' {"":{"":{}}} ', {"": {"": {}}}),
    ],
)
def test_what_is_well_formed_and_modest_is_taken(text: bytes, value: Any) -> None:
    parsed = parse_object(text)

    assert value is None or parsed == value


def test_a_million_token_ids_are_read_in_good_time() -> None:
    text = b'{"prompt":[' + b",".join(b"%d" % (n % 512) for n in range(1_000_000)) + b"]}"
    started = time.process_time()

    assert len(parse_object(text)["prompt"]) == 1_000_000
    assert time.process_time() - started < 1
