"""One path of a dialect, and bodies that it is meant to answer.

`wording` is the dialect that words what fails there. `unsupported` are paths that say 501 on
purpose, for every request of this method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz import fields
from tests.fuzz.fields import FLAG, drawn, few, messages, one, prompts
from tests.fuzz.values import Make

Fields = Mapping[str, Make]


@dataclass(frozen=True)
class Endpoint:
    """`needs` are fields that every body has, `may` those of which each has some."""

    wording: str
    path: str
    needs: Fields = field(default_factory=dict)
    may: Fields = field(default_factory=dict)
    method: str = "POST"
    weight: int = 1
    unsupported: bool = False

    def body(self, random: Random) -> dict[str, Any] | None:
        if self.method != "POST" and not self.needs:
            return None
        return {name: make(random) for name, make in self.needs.items()} | drawn(
            random, self.may, random.choice((0, 1, 2, 5))
        )


def get(wording: str, *paths: str) -> list[Endpoint]:
    return [Endpoint(wording, path, method="GET") for path in paths]


def unsupported(wording: str, *paths: str, method: str = "POST") -> list[Endpoint]:
    return [Endpoint(wording, path, method=method, unsupported=True) for path in paths]


def chat(wording: str, path: str, weight: int = 8) -> Endpoint:
    needs = {"messages": messages, "max_tokens": few}
    return Endpoint(wording, path, needs, fields.CHAT, weight=weight)


def completion(wording: str, path: str, weight: int = 5) -> Endpoint:
    needs = {"prompt": prompts, "max_tokens": few}
    return Endpoint(wording, path, needs, fields.COMPLETION, weight=weight)


def embeddings(wording: str, path: str, key: str = "input") -> Endpoint:
    may = {
        "model": one(*fields.MODELS),
        "encoding_format": one("float", "base64", "int8"),
        "dimensions": one(1, 64, 128, 10**6),
        "normalize": FLAG,
        "truncate_prompt_tokens": one(-1, 2),
        "add_special_tokens": FLAG,
    }
    return Endpoint(wording, path, {key: prompts}, may, weight=2)
