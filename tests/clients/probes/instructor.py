"""Instructor over OpenAI's client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import instructor
import openai
import pydantic
from instructor.core import InstructorRetryException

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


class Weather(pydantic.BaseModel):
    """Get the current weather in a city."""

    city: str


class Numbers(pydantic.BaseModel):
    numbers: Sequence[int]


class Probes(probing.Probes):
    client = "instructor"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.openai = openai.OpenAI(base_url=mount.base, api_key="unused", max_retries=0)

    def completions(self, mode: Any = instructor.Mode.TOOLS) -> Any:
        return instructor.from_openai(self.openai, mode=mode).chat.completions

    def asked(self, question: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        given = {"temperature": 0, "max_tokens": 300, "max_retries": 0}
        return {"model": MODEL, "messages": messages, **given, **more}

    def plain(self) -> None:
        answer = self.completions().create(**self.asked(GREETING, response_model=None))

        assert "help" in answer.choices[0].message.content
        assert answer.model == MODEL
        assert answer.usage.prompt_tokens > 5 < answer.usage.completion_tokens

    def stream(self) -> None:
        asked = self.asked(ANN, response_model=Person)
        parts = asyncio.run(self.first(100, asked))

        assert len(parts) > 3
        assert parts[-1].model_dump() == {"name": "Ann", "age": 30}

    async def first(self, count: int, asked: dict[str, Any]) -> list[Any]:
        """Of a stream that ends or is left. (The client that is not async has read all of it before
        it gives any.)"""
        parts = []
        async with openai.AsyncOpenAI(base_url=self.mount.base, api_key="unused") as service:
            wrapped = instructor.from_openai(service, mode=instructor.Mode.JSON_SCHEMA)
            stream: Any = wrapped.chat.completions.create_partial(**asked)
            async for part in stream:
                parts.append(part)
                if len(parts) == count:
                    break
            await stream.aclose()
        return parts

    def tools(self) -> None:
        asked = self.asked(WEATHER, response_model=Weather)
        called, answer = self.completions().create_with_completion(**asked)

        assert called.model_dump() == {"city": "Paris"}
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "Weather",
            {"city": "Paris"},
        )

    def structured(self) -> None:
        asked = self.asked(ANN, response_model=Person)
        held = self.completions(instructor.Mode.JSON_SCHEMA).create(**asked)
        called = self.completions().create(**asked)

        assert held.model_dump() == {"name": "Ann", "age": 30}
        assert isinstance(called, Person)

    def reasoning(self) -> None:
        answer = self.completions().create(**self.asked(SUM, response_model=None))

        message = answer.choices[0].message
        assert "2 + 0 = 2" in message.model_extra["reasoning"]
        assert message.content == "12 + 30 = 42."

    def embeddings(self) -> None:
        raise probing.Absent("it wraps chats alone")

    def errors(self) -> None:
        unknown = self.refused(self.asked(ANN, model="nope", response_model=Person))
        long = self.refused(self.asked(probing.TOO_LONG, response_model=Person))

        assert isinstance(unknown, openai.NotFoundError)
        assert isinstance(long, openai.BadRequestError)
        assert "context length" in long.message

    def refused(self, asked: dict[str, Any]) -> Any:
        error = probing.raised(Exception, lambda: self.completions().create(**asked))
        return error.__cause__ if isinstance(error, InstructorRetryException) else error

    def abort(self) -> None:
        asyncio.run(self.first(1, self.asked(COUNT, response_model=Numbers, max_tokens=3000)))


if __name__ == "__main__":
    probing.main(Probes)
