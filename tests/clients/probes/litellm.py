"""LiteLLM, which has a provider for each dialect."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

# Else it asks a server elsewhere what models cost.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, FUNCTION, GREETING, MODEL, SUM, WEATHER

# The first is asked everything, the others for a plain and a streamed answer.
PROVIDERS = {
    "/v1": ("openai", "text-completion-openai"),
    "/openai/v1": ("openai", "text-completion-openai"),
    "/vllm/v1": ("hosted_vllm",),
    "": ("ollama_chat", "ollama"),
    "/ollama": ("ollama_chat", "ollama"),
    "/anthropic": ("anthropic",),
}


class Probes(probing.Probes):
    client = "litellm"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.providers = PROVIDERS[mount.path]
        self.model = f"{self.providers[0]}/{MODEL}"
        self.at = {"api_base": mount.base, "api_key": "unused", "num_retries": 0}

    def chat(self, question: str, **more: Any) -> Any:
        messages = [{"role": "user", "content": question}]
        given = {"model": self.model, "temperature": 0, "max_tokens": 300, **self.at, **more}
        return litellm.completion(messages=messages, **given)

    def plain(self) -> None:
        for provider in self.providers:
            answer = self.chat(GREETING, model=f"{provider}/{MODEL}")

            (choice,) = answer.choices
            assert choice.message.role == "assistant"
            assert choice.message.content
            assert choice.finish_reason == "stop"
            usage = answer.usage
            assert usage.prompt_tokens > 0 < usage.completion_tokens
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert "help" in self.chat(GREETING).choices[0].message.content

    def stream(self) -> None:
        for provider in self.providers:
            asked = {"model": f"{provider}/{MODEL}"}
            parts = [*self.chat(GREETING, stream=True, **asked)]

            assert len(parts) > 3
            text = "".join(part.choices[0].delta.content or "" for part in parts)
            assert text == self.chat(GREETING, **asked).choices[0].message.content
            assert parts[-1].choices[0].finish_reason == "stop"

    def tools(self) -> None:
        (choice,) = self.chat(WEATHER, tools=[FUNCTION]).choices
        parts = [*self.chat(WEATHER, tools=[FUNCTION], stream=True)]
        streamed = litellm.stream_chunk_builder(parts).choices[0]

        for made in (choice, streamed):
            (call,) = made.message.tool_calls
            assert made.finish_reason == "tool_calls"
            assert call.id
            assert call.function.name == "get_weather"
            assert json.loads(call.function.arguments) == {"city": "Paris"}

    def structured(self) -> None:
        named = {"name": "person", "strict": True, "schema": probing.PERSON}
        shape = {"type": "json_schema", "json_schema": named}
        text = self.chat(ANN, response_format=shape).choices[0].message.content

        if self.providers == ("anthropic",):  # whose models it holds to a schema by a tool
            assert {name: type(value) for name, value in json.loads(text).items()} == {
                "name": str,
                "age": int,
            }
        else:
            assert probing.is_ann(text)

    def reasoning(self) -> None:
        thought: dict[str, Any] = {"reasoning_effort": "low"}
        if self.providers == ("anthropic",):
            thinking = {"type": "enabled", "budget_tokens": 1024}
            thought = {"thinking": thinking, "allowed_openai_params": ["thinking"]}
        message = self.chat(SUM, max_tokens=2000, **thought).choices[0].message

        assert "2 + 0 = 2" in message.reasoning_content
        assert message.content.strip() == "12 + 30 = 42."

    def embeddings(self) -> None:
        if self.providers == ("anthropic",):
            raise probing.Absent("Anthropic's API has no embeddings")
        answer = litellm.embedding(self.embedder(), input=probing.TEXTS, **self.at)

        assert probing.are_vectors_of_texts([entry["embedding"] for entry in answer.data])
        assert answer.usage.prompt_tokens > 3

    def embedder(self) -> str:
        return self.model.replace("ollama_chat/", "ollama/")

    def errors(self) -> None:
        nobodys = self.model.replace(MODEL, "nope")
        unknown = probing.raised(litellm.NotFoundError, lambda: self.chat(GREETING, model=nobodys))
        assert unknown.status_code == 404
        assert "nope" in unknown.message
        if "ollama" not in self.providers:  # which leaves out what does not fit
            long = probing.raised(
                litellm.ContextWindowExceededError, lambda: self.chat(probing.TOO_LONG)
            )
            assert long.status_code == 400

    def abort(self) -> None:
        async def leave() -> None:
            messages = [{"role": "user", "content": COUNT}]
            asked = {"model": self.model, "temperature": 0, "max_tokens": 3000, **self.at}
            parts = await litellm.acompletion(messages=messages, stream=True, **asked)
            await anext(parts)
            await parts.aclose()

        asyncio.run(leave())


if __name__ == "__main__":
    probing.main(Probes)
