"""LlamaIndex over OpenAI's client, for servers other than OpenAI's."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"Sunny in {city}"


class Probes(probing.Probes):
    client = "llama-index-llms-openai-like"

    def llm(self, **more: Any) -> Any:
        given = {"model": MODEL, "temperature": 0, "max_tokens": 300, "max_retries": 0, **more}
        able = {"is_chat_model": True, "is_function_calling_model": True}
        return OpenAILike(api_base=self.mount.base, api_key="unused", **able, **given)

    def plain(self) -> None:
        answer = self.llm().chat([ChatMessage(GREETING)])

        assert "help" in answer.message.content
        assert answer.message.role == "assistant"
        assert answer.raw.choices[0].finish_reason == "stop"
        counts = answer.additional_kwargs
        assert counts["prompt_tokens"] > 5 < counts["completion_tokens"]

    def stream(self) -> None:
        parts = [*self.llm().stream_chat([ChatMessage(GREETING)])]

        assert len(parts) > 3
        whole = self.llm().chat([ChatMessage(GREETING)]).message.content
        assert "".join(part.delta or "" for part in parts) == whole
        assert parts[-1].message.content == whole

    def tools(self) -> None:
        tool = FunctionTool.from_defaults(get_weather)
        model = self.llm()
        calls = model.get_tool_calls_from_response(model.chat_with_tools([tool], WEATHER))

        assert [(c.tool_name, c.tool_kwargs) for c in calls] == [("get_weather", {"city": "Paris"})]

    def structured(self) -> None:
        held = self.llm(should_use_structured_outputs=True)
        called = self.llm()

        answer = held.structured_predict(Person, PromptTemplate(ANN))
        assert answer == Person(name="Ann", age=30)
        assert isinstance(called.structured_predict(Person, PromptTemplate(ANN)), Person)

    def reasoning(self) -> None:
        message = self.llm().chat([ChatMessage(SUM)]).message

        (thought,) = [block for block in message.blocks if isinstance(block, ThinkingBlock)]
        assert "2 + 0 = 2" in thought.content
        assert message.content == "12 + 30 = 42."

    def embeddings(self) -> None:
        given: Any = {"api_base": self.mount.base, "api_key": "unused"}
        embedding = OpenAILikeEmbedding(model_name=MODEL, **given)

        assert probing.are_vectors_of_texts(embedding.get_text_embedding_batch(probing.TEXTS))

    def errors(self) -> None:
        unknown = probing.raised(
            openai.NotFoundError, lambda: self.llm(model="nope").chat([ChatMessage(GREETING)])
        )
        long = probing.raised(
            openai.BadRequestError, lambda: self.llm().chat([ChatMessage(probing.TOO_LONG)])
        )

        assert unknown.code in ("model_not_found", 404)  # the second is vLLM's
        assert "context length" in long.message

    def abort(self) -> None:
        parts = self.llm(max_tokens=3000).stream_chat([ChatMessage(COUNT)])
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
