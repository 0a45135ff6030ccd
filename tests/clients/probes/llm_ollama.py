"""The command `llm` with its plugin for Ollama, through the functions that the command calls."""

from __future__ import annotations

import os
from typing import Any

import llm
import ollama
import pydantic
from llm_ollama.models.chat import OllamaChatModel
from llm_ollama.models.embed import OllamaEmbeddingModel

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"Sunny in {city}"


class Probes(probing.Probes):
    client = "llm-ollama"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        os.environ["OLLAMA_HOST"] = mount.base

    def asked(self, question: str, **more: Any) -> Any:
        given = {"temperature": 0, "num_predict": 300, "stream": False, **more}
        return llm.get_model(f"ollama/{MODEL}").prompt(question, **given)

    def plain(self) -> None:
        answer = self.asked(GREETING)

        assert "help" in answer.text()
        assert answer.response_json["done_reason"] == "stop"
        usage = answer.usage()
        assert usage.input > 5 < usage.output

    def stream(self) -> None:
        parts = [*self.asked(GREETING, stream=True)]

        assert len(parts) > 3
        assert "".join(parts) == self.asked(GREETING).text()

    def tools(self) -> None:
        (call,) = self.asked(WEATHER, tools=[get_weather]).tool_calls()

        assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})

    def structured(self) -> None:
        assert probing.is_ann(self.asked(ANN, schema=Person).text())

    def reasoning(self) -> None:
        answer = self.asked(SUM, think=True)

        assert answer.text() == "12 + 30 = 42."
        assert "2 + 0 = 2" in answer.response_json["message"]["thinking"]

    def embeddings(self) -> None:
        model = OllamaEmbeddingModel(model_id="demo", ollama_name=MODEL)
        vectors = [*model.embed_multi(probing.TEXTS)]

        assert probing.are_vectors_of_texts(vectors)

    def errors(self) -> None:
        nobodys = OllamaChatModel(model_id="nope", ollama_name="nope", capabilities=["completion"])
        unknown = probing.raised(ollama.ResponseError, lambda: nobodys.prompt(GREETING).text())
        other = OllamaEmbeddingModel(model_id="nope", ollama_name="nope")
        unembedded = probing.raised(ollama.ResponseError, lambda: other.embed(GREETING))

        assert (unknown.status_code, unknown.error) == (404, "model 'nope' not found")
        assert (unembedded.status_code, "not found" in unembedded.error) == (404, True)

    def abort(self) -> None:
        parts = iter(self.asked(COUNT, stream=True, num_predict=3000))
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
