"""LlamaIndex over Ollama's client."""

from __future__ import annotations

from typing import Any

import ollama
import pydantic
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"Sunny in {city}"


class Probes(probing.Probes):
    client = "llama-index-llms-ollama"

    def llm(self, model: str = MODEL, num_predict: Any = 300, **more: Any) -> Any:
        given = {"temperature": 0, "additional_kwargs": {"num_predict": num_predict}, **more}
        return Ollama(model=model, base_url=self.mount.base, request_timeout=60, **given)

    def plain(self) -> None:
        model = self.llm(context_window=-1)  # which has it ask for the true one
        answer = model.chat([ChatMessage(GREETING)])

        assert "help" in answer.message.content
        assert answer.message.role == "assistant"
        assert answer.raw["done_reason"] == "stop"
        assert answer.raw["usage"]["prompt_tokens"] > 5 < answer.raw["usage"]["completion_tokens"]
        assert model.get_context_window() == 4096

    def stream(self) -> None:
        parts = [*self.llm().stream_chat([ChatMessage(GREETING)])]

        assert len(parts) > 3
        whole = self.llm().chat([ChatMessage(GREETING)]).message.content
        assert "".join(part.delta for part in parts) == parts[-1].message.content == whole

    def tools(self) -> None:
        tool = FunctionTool.from_defaults(get_weather)
        model = self.llm()
        calls = model.get_tool_calls_from_response(model.chat_with_tools([tool], WEATHER))

        assert [(c.tool_name, c.tool_kwargs) for c in calls] == [("get_weather", {"city": "Paris"})]

    def structured(self) -> None:
        answer = self.llm().structured_predict(Person, PromptTemplate(ANN))

        assert answer == Person(name="Ann", age=30)

    def reasoning(self) -> None:
        message = self.llm(thinking=True).chat([ChatMessage(SUM)]).message

        (thought,) = [block for block in message.blocks if isinstance(block, ThinkingBlock)]
        assert "2 + 0 = 2" in thought.content
        assert message.content == "12 + 30 = 42."

    def embeddings(self) -> None:
        embedding = OllamaEmbedding(model_name=MODEL, base_url=self.mount.base)
        vectors = embedding.get_text_embedding_batch(probing.TEXTS)

        assert probing.are_vectors_of_texts(vectors)

    def errors(self) -> None:
        unknown = probing.raised(
            ollama.ResponseError, lambda: self.llm("nope").chat([ChatMessage(GREETING)])
        )
        bad = probing.raised(
            ollama.ResponseError, lambda: self.llm(num_predict="many").chat([ChatMessage(GREETING)])
        )

        assert (unknown.status_code, unknown.error) == (404, "model 'nope' not found")
        assert bad.status_code == 400

    def abort(self) -> None:
        parts = self.llm(num_predict=3000).stream_chat([ChatMessage(COUNT)])
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
