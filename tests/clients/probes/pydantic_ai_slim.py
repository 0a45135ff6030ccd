"""Pydantic AI over OpenAI's client."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
from pydantic_ai import Agent, Embedder, NativeOutput, ThinkingPart, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


class Probes(probing.Probes):
    client = "pydantic-ai-slim"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.provider: Any = OpenAIProvider(base_url=mount.base, api_key="unused")

    def agent(self, model: str = MODEL, max_tokens: int = 300, **more: Any) -> Any:
        chat = OpenAIChatModel(model, provider=self.provider)
        return Agent(chat, model_settings={"temperature": 0, "max_tokens": max_tokens}, **more)

    def plain(self) -> None:
        result = self.agent().run_sync(GREETING)

        assert "help" in result.output
        assert result.response.model_name == MODEL
        assert result.response.finish_reason == "stop"
        assert result.usage.input_tokens > 5 < result.usage.output_tokens

    def stream(self) -> None:
        async def parts() -> list[str]:
            async with self.agent().run_stream(GREETING) as result:
                return [part async for part in result.stream_text(delta=True, debounce_by=None)]

        streamed = asyncio.run(parts())

        assert len(streamed) > 3
        assert "".join(streamed) == self.agent().run_sync(GREETING).output

    def tools(self) -> None:
        agent = self.agent()
        cities = []

        @agent.tool_plain  # type: ignore[untyped-decorator]
        def get_weather(city: str) -> str:
            """Get the current weather in a city."""
            cities.append(city)
            return "21 degrees and sunny"

        result = agent.run_sync(WEATHER)

        assert cities == ["Paris"]
        assert "21 degrees and sunny" in result.output

    def structured(self) -> None:
        native = self.agent(output_type=NativeOutput(Person)).run_sync(ANN)
        called = self.agent(output_type=ToolOutput(Person)).run_sync(ANN)

        assert native.output == Person(name="Ann", age=30)
        assert isinstance(called.output, Person)

    def reasoning(self) -> None:
        result = self.agent().run_sync(SUM)

        (thought,) = [part for part in result.response.parts if isinstance(part, ThinkingPart)]
        assert "2 + 0 = 2" in thought.content
        assert result.output == "12 + 30 = 42."

    def embeddings(self) -> None:
        embedder = Embedder(OpenAIEmbeddingModel(MODEL, provider=self.provider))
        found = embedder.embed_documents_sync(probing.TEXTS)

        assert probing.are_vectors_of_texts(found.embeddings)

    def errors(self) -> None:
        unknown = probing.raised(ModelHTTPError, lambda: self.agent("nope").run_sync(GREETING))
        long = probing.raised(ModelHTTPError, lambda: self.agent().run_sync(probing.TOO_LONG))

        assert (unknown.status_code, unknown.model_name) == (404, "nope")
        assert long.status_code == 400
        assert "context length" in str(long.body)

    def abort(self) -> None:
        async def leave() -> None:
            async with self.agent(max_tokens=3000).run_stream(COUNT) as result:
                async for _ in result.stream_text(delta=True, debounce_by=None):
                    break
                await result.cancel()

        asyncio.run(leave())


if __name__ == "__main__":
    probing.main(Probes)
