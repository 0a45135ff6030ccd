"""LangChain over Ollama's client."""

from __future__ import annotations

from typing import Any

import ollama
import pydantic
from langchain_ollama import ChatOllama, OllamaEmbeddings

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, FUNCTION, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


class Probes(probing.Probes):
    client = "langchain-ollama"

    def chat(self, model: str = MODEL, **more: Any) -> Any:
        given = {"temperature": 0, "num_predict": 300, **more}
        return ChatOllama(model=model, base_url=self.mount.base, **given)

    def plain(self) -> None:
        answer = self.chat(validate_model_on_init=True).invoke(GREETING)

        assert "help" in answer.content
        assert answer.response_metadata["model"] == MODEL
        assert answer.response_metadata["done_reason"] == "stop"
        assert answer.response_metadata["eval_duration"] > 100_000  # nanoseconds
        usage = answer.usage_metadata
        assert usage["input_tokens"] > 5 < usage["output_tokens"]

    def stream(self) -> None:
        whole = self.chat().invoke(GREETING)
        final, *others = self.chat().stream(GREETING)
        for part in others:
            final += part

        assert len(others) > 3
        assert final.content == whole.content
        assert final.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]

    def tools(self) -> None:
        answer = self.chat().bind_tools([FUNCTION]).invoke(WEATHER)

        (call,) = answer.tool_calls
        assert call["id"]
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})

    def structured(self) -> None:
        answer = self.chat().with_structured_output(Person).invoke(ANN)

        assert answer == Person(name="Ann", age=30)

    def reasoning(self) -> None:
        answer = self.chat(reasoning=True).invoke(SUM)

        assert "2 + 0 = 2" in answer.additional_kwargs["reasoning_content"]
        assert answer.content == "12 + 30 = 42."

    def embeddings(self) -> None:
        embeddings = OllamaEmbeddings(model=MODEL, base_url=self.mount.base)
        vectors = embeddings.embed_documents(probing.TEXTS)

        assert probing.are_vectors_of_texts(vectors)
        assert len(embeddings.embed_query("two three")) == len(vectors[1])

    def errors(self) -> None:
        unknown = probing.raised(ollama.ResponseError, lambda: self.chat("nope").invoke(GREETING))
        other = OllamaEmbeddings(model="nope", base_url=self.mount.base)
        unembedded = probing.raised(ollama.ResponseError, lambda: other.embed_query(GREETING))
        unlisted = probing.raised(
            ValueError, lambda: self.chat("nope", validate_model_on_init=True)
        )

        assert (unknown.status_code, unknown.error) == (404, "model 'nope' not found")
        assert (unembedded.status_code, "not found" in unembedded.error) == (404, True)
        assert "nope" in str(unlisted)

    def abort(self) -> None:
        parts = self.chat(num_predict=3000).stream(COUNT)
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
