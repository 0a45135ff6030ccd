"""Bytes that more than one dialect puts on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import Response

# Compact, UTF-8, and ten times as fast as the standard library's.
encode_json = msgspec.json.Encoder().encode

# Exactly one space after the colon: benchmark clients strip the literal `data: `, and one
# hub client compares a whole line with `data: [DONE]`.
DONE = b"data: [DONE]\n\n"
# A comment line, which every SSE client skips. It keeps proxies from closing a quiet stream.
PING = b": ping\n\n"

EVENT_STREAM = "text/event-stream"


def json_response(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(encode_json(value), status, headers, media_type=media_type)


def iso(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 has them, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def sse(payload: bytes) -> bytes:
    return b"data: %b\n\n" % payload


def named_sse(name: bytes, payload: bytes) -> bytes:
    """A frame with a name, as Anthropic's streams and OpenAI's responses have them."""
    return b"event: %b\ndata: %b\n\n" % (name, payload)
