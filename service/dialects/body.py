"""The request's body: bounded in size, time and shape, then a JSON object.

JSON parsers agree on well-formed text and differ on the rest, so the rest is refused: NaN and
Infinity, invalid UTF-8, lone surrogates, duplicate keys, integers beyond 64 bits, nesting over
64. The parser itself (msgspec) refuses the first three.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.dialects.coding import decoder
from service.errors import InvalidRequest

READ_SECONDS: Final = 30.0
MAX_DEPTH: Final = 64
# What a signed or an unsigned number of 64 bits can be: seeds are the largest.
LEAST_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1
EMPTY: Final = "The request's body is empty; a JSON object was expected"
# Objects and arrays of one body: reading more of them would hold up everybody else.
MAX_CONTAINERS: Final = 100_000


class ClientGone(Exception):
    """The client hung up before there was anything to send."""


async def read_object(scope: Scope, receive: Receive, limit: int) -> dict[str, Any]:
    """Whatever the Content-Type says: `curl -d` sends JSON as a form, and so do Ollama's docs."""
    return parse_object(await received(scope, receive, limit))


async def read_array(scope: Scope, receive: Receive, limit: int) -> list[Any]:
    """As `read_object`, for the few endpoints that take a list."""
    value = parse(await received(scope, receive, limit))
    if not isinstance(value, list):
        raise InvalidRequest("The request's body must be a JSON array")
    return value


async def received(scope: Scope, receive: Receive, limit: int) -> bytes:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await read(scope, receive, limit)
    except TimeoutError:
        raise HTTPException(
            408, "The request's body did not arrive in time", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ClientGone from None


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    # Who sends it only once the server wants it will not send it now; all others are sending, and
    # read the answer when that is done: HttpProtocol drops the rest.
    close = {"Connection": "close"} if any(n == b"expect" for n, _ in scope["headers"]) else None
    too_long = HTTPException(413, f"The request's body is longer than {limit} bytes", close)
    for name, value in scope["headers"]:
        # httptools has already refused a length that is no number.
        if name == b"content-length" and int(value) > limit:
            raise too_long
    coding = decoder(scope)
    body, arrived = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        data = message.get("body", b"")
        arrived += len(data)
        body += coding.feed(data, limit + 1 - len(body))
        if max(arrived, len(body)) > limit:
            raise too_long
        if not message.get("more_body", False):
            if arrived:
                coding.close()
            return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Raises InvalidRequest for everything that is not one well-formed, modest JSON object."""
    value = parse(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The request's body must be a JSON object")
    return value


def parse(body: bytes) -> Any:
    """Raises InvalidRequest for everything that is not well-formed, modest JSON."""
    if not body.strip():
        raise InvalidRequest(EMPTY)
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise too_deep() from None
    except UnicodeDecodeError:
        raise InvalidRequest("The JSON is not valid UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest(f"The request's body is not valid JSON: {error}") from None
    if keys_of(value) != written_keys(body):
        raise InvalidRequest("The JSON has the same key twice in one object")
    return value


def keys_of(value: Any) -> int:
    """Counts the keys of all objects; raises InvalidRequest on what is too deep or too large."""
    keys = depth = containers = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                keys += len(item)
                below += item.values()
            elif type(item) is list:
                below += item
            elif type(item) is int and not LEAST_INTEGER <= item <= MAX_INTEGER:
                raise InvalidRequest("The JSON has an integer of more than 64 bits")
            else:
                continue
            containers += 1
            if depth > MAX_DEPTH:
                raise too_deep()
            if containers > MAX_CONTAINERS:
                raise InvalidRequest(f"The JSON has more than {MAX_CONTAINERS} objects and arrays")
        level = below
    return keys


def too_deep() -> InvalidRequest:
    return InvalidRequest(f"The JSON is nested more than {MAX_DEPTH} levels deep")


def written_keys(body: bytes) -> int:
    """How many keys the text has: in valid JSON, the colons outside of strings.

    The decoded value has fewer where one object repeats a key, since the last one wins.
    """
    # In valid JSON a backslash is in a string; without escapes every second part is outside.
    outside = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    return b"".join(outside).count(b":")
