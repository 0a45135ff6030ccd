"""What is asked of a server, as data. Everything here is decided by a seed and a round.

Each round has prompts of its own, so that no server finds them in its cache; within a round
every server is asked the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

# One token each in the vocabularies of Qwen2 and Llama, so that words count as tokens.
WORDS = (
    "the of and to in that was his with for had you not but her which have from they this she are "
    "him one all been were said would what there their when who will more out now then them some "
    "into your only time could over our very upon than little other any man first down made like "
    "before should where never good come these after great day much did about here long old own "
    "way again came know think life himself against must back eyes head house hand thought going "
    "night just face right still look without place while under part name world small last home "
    "found work water hear best city king light room door young earth white table green paper "
    "river mountain letter number music story field winter summer garden window market bridge "
    "forest animal people family school"
).split()

# What llama.cpp's own server uses unless told otherwise, said aloud to every server.
SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}

Message = dict[str, str]


@dataclass(frozen=True)
class Request:
    """A chat, or a plain completion where the prompt is text. It runs to its last token."""

    prompt: tuple[Message, ...] | str
    max_tokens: int
    seed: int
    # What the answer is held to: then it ends where that is complete.
    schema: dict[str, Any] | None = None

    @property
    def route(self) -> str:
        return "/v1/completions" if isinstance(self.prompt, str) else "/v1/chat/completions"

    def body(self, model: str) -> dict[str, Any]:
        key = "prompt" if isinstance(self.prompt, str) else "messages"
        held: dict[str, Any] = {"ignore_eos": True}
        if self.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": self.schema}
            held = {"response_format": {"type": "json_schema", "json_schema": schema}}
        return {
            "model": model,
            key: self.prompt,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **held,
            **SAMPLING,
        }


@dataclass(frozen=True)
class Closed:
    """So many clients, each of which asks again when it is answered."""

    clients: int


@dataclass(frozen=True)
class Poisson:
    """Requests arrive whether or not earlier ones are answered, `rate` a second on average."""

    rate: float

    def times(self, count: int, seed: object) -> list[float]:
        """Seconds after the start; the first at once, so that a run has no idle beginning."""
        source, now, times = random.Random(f"{seed}"), 0.0, []
        for _ in range(count):
            times.append(now)
            now += source.expovariate(self.rate)
        return times


Arrivals = Closed | Poisson


@dataclass(frozen=True)
class Distinct:
    """Prompts that share nothing but the template."""

    arrivals: Arrivals
    requests: int
    prompt_words: int = 128
    max_tokens: int = 128

    def plan(self, seed: object) -> list[Request]:
        source = random.Random(f"distinct {seed}")
        return [
            Request((user(source, self.prompt_words),), self.max_tokens, number)
            for number in range(self.requests)
        ]


@dataclass(frozen=True)
class Held:
    """Short prompts, and answers that are a JSON object of twenty fields, or as long and free."""

    clients: int
    free: bool
    requests: int = 8
    max_tokens: int = 256

    def plan(self, seed: object) -> list[Request]:
        source = random.Random(f"held {seed}")
        schema = None if self.free else twenty_fields()
        return [
            Request((user(source, 16),), self.max_tokens, number, schema)
            for number in range(self.requests)
        ]


def twenty_fields() -> dict[str, Any]:
    """Names, numbers, choices and lists, as a form has them; texts short, so that it gets to all."""
    kinds: list[dict[str, Any]] = [
        {"type": "string", "maxLength": 24},
        {"type": "integer", "minimum": 0, "maximum": 9999},
        {"enum": ["open", "waiting", "closed", "not known"]},
        {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
        {"type": "boolean"},
    ]
    names = [word for word in WORDS if len(word) > 4][:20]
    fields = {name: kinds[number % len(kinds)] for number, name in enumerate(names)}
    return {
        "type": "object",
        "properties": fields,
        "required": names,
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class SharedPrefix:
    """One system prompt for all, then a few words of each one's own."""

    arrivals: Arrivals
    requests: int
    shared_words: int = 512
    distinct_words: int = 16
    max_tokens: int = 64

    def plan(self, seed: object) -> list[Request]:
        source = random.Random(f"shared {seed}")
        system = {"role": "system", "content": words(source, self.shared_words)}
        return [
            Request((system, user(source, self.distinct_words)), self.max_tokens, number)
            for number in range(self.requests)
        ]


@dataclass(frozen=True)
class LongPrompt:
    """A long prompt arrives when every stream has run for a while."""

    streams: int = 4
    stream_tokens: int = 192
    after_frames: int = 24
    prompt_words: int = 1500
    max_tokens: int = 8

    def plan(self, seed: object) -> tuple[list[Request], Request]:
        source = random.Random(f"long {seed}")
        streams = [
            Request((user(source, 32),), self.stream_tokens, number)
            for number in range(self.streams)
        ]
        return streams, Request((user(source, self.prompt_words),), self.max_tokens, self.streams)


@dataclass(frozen=True)
class MultiTurn:
    """Conversations that go on at once, each turn sending all that was said before."""

    conversations: int = 4
    turns: int = 6
    system_words: int = 96
    user_words: int = 32
    max_tokens: int = 48

    def plan(self, seed: object) -> list[tuple[Message, list[Message]]]:
        """For each conversation the system's message and what the user will say."""
        source = random.Random(f"turns {seed}")
        return [
            (
                {"role": "system", "content": words(source, self.system_words)},
                [user(source, self.user_words) for _ in range(self.turns)],
            )
            for _ in range(self.conversations)
        ]


def words(source: random.Random, count: int) -> str:
    return " ".join(source.choices(WORDS, k=count))


def user(source: random.Random, count: int) -> Message:
    return {"role": "user", "content": words(source, count)}
