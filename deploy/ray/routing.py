"""Which model a request is for, what of its head goes on, and lists that are made of several. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Headers = Sequence[tuple[bytes, bytes]]

HEADER: Final = b"x-model"
# Of one connection and not of the request (RFC 9110, 7.6.1); the body has come whole.
_OF_THE_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The end of a path → where its answer has the list.
_LISTS: Final = {"/v1/models": "data", "/api/tags": "models", "/api/ps": "models"}


def key(name: str) -> str:
    """A name without a tag is the one with `:latest`."""
    return name.removesuffix(":latest")


def model_of(headers: Headers, body: bytes) -> str | None:
    """What `X-Model` says, else the `model` of a JSON body; None where neither says anything."""
    for name, value in headers:
        if name.lower() == HEADER:
            return key(value.decode("latin-1"))
    try:
        fields = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    model = fields.get("model") if isinstance(fields, dict) else None
    return key(model) if isinstance(model, str) else None


def passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    without = _OF_THE_CONNECTION | {HEADER}
    return [(name, value) for name, value in headers if name.lower() not in without]


def list_in(method: str, path: str) -> str | None:
    """The key of the list that this path answers with, if it is one that every model is in."""
    if method != "GET":
        return None
    return next((inside for end, inside in _LISTS.items() if path.endswith(end)), None)


def joined(answers: Iterable[Mapping[str, Any]], inside: str) -> dict[str, Any]:
    """The first answer, with what the lists of all have; a model that two have stands once."""
    whole: dict[str, Any] = {}
    for answer in answers:
        known = {str(each.get("id") or each.get("name")) for each in whole.get(inside, [])}
        new = [e for e in answer[inside] if str(e.get("id") or e.get("name")) not in known]
        whole = {**answer, **whole, inside: [*whole.get(inside, []), *new]}
    return whole
