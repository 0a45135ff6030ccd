"""LangChain over OpenAI's client."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, FUNCTION, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


class Probes(probing.Probes):
    client = "langchain-openai"

    def chat(self, **more: Any) -> Any:
        given = {"model": MODEL, "temperature": 0, "max_tokens": 300, "max_retries": 0, **more}
        return ChatOpenAI(base_url=self.mount.base, api_key="unused", **given)

    def plain(self) -> None:
        answer = self.chat().invoke(GREETING)

        assert "help" in answer.content
        assert answer.response_metadata["model_name"] == MODEL
        assert answer.response_metadata["finish_reason"] == "stop"
        usage = answer.usage_metadata
        assert usage["input_tokens"] > 5 < usage["output_tokens"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    def stream(self) -> None:
        whole = self.chat().invoke(GREETING)
        first, *others = self.chat(stream_usage=True).stream(GREETING)
        final = first
        for part in others:
            final += part

        assert len(others) > 3
        assert final.content == whole.content
        assert final.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
        assert final.response_metadata["finish_reason"] == "stop"

    def tools(self) -> None:
        bound = self.chat().bind_tools([FUNCTION])
        final, *others = bound.stream(WEATHER)
        for part in others:
            final += part
        forced = self.chat().bind_tools([FUNCTION], tool_choice="get_weather").invoke(WEATHER)

        for answer in (bound.invoke(WEATHER), final, forced):
            (call,) = answer.tool_calls
            assert call["id"]
            assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})

    def structured(self) -> None:
        for method in ("json_schema", "function_calling"):
            answer = self.chat().with_structured_output(Person, method=method).invoke(ANN)
            assert isinstance(answer, Person)
        assert self.chat().with_structured_output(Person).invoke(ANN) == Person(name="Ann", age=30)

    def reasoning(self) -> None:
        if self.mount.path.startswith("/vllm"):
            assert "2 + 0 = 2" not in str(self.chat().invoke(SUM))
            raise probing.Absent(
                "of a chat it drops the fields in which servers other than OpenAI's send thoughts; "
                "it reads those of a response (`use_responses_api=True`), which /vllm does not serve"
            )
        thought = {"effort": "low", "summary": "auto"}
        answer = self.chat(use_responses_api=True, reasoning=thought).invoke(SUM)

        first, text = answer.content_blocks
        assert (first["type"], text["type"]) == ("reasoning", "text")
        assert "2 + 0 = 2" in first["reasoning"]
        assert text["text"] == "12 + 30 = 42."

    def embeddings(self) -> None:
        # Else it sends the ids of a tokenizer that is OpenAI's and not the model's.
        given: Any = {"check_embedding_ctx_length": False, "api_key": "unused"}
        embeddings = OpenAIEmbeddings(model=MODEL, base_url=self.mount.base, **given)
        vectors = embeddings.embed_documents(probing.TEXTS)

        assert probing.are_vectors_of_texts(vectors)
        assert len(embeddings.embed_query("two three")) == len(vectors[1])

    def errors(self) -> None:
        unknown = probing.raised(
            openai.NotFoundError, lambda: self.chat(model="nope").invoke(GREETING)
        )
        long = probing.raised(openai.BadRequestError, lambda: self.chat().invoke(probing.TOO_LONG))

        assert (unknown.status_code, long.status_code) == (404, 400)
        assert "nope" in unknown.message
        assert "context length" in long.message

    def abort(self) -> None:
        parts = self.chat(max_tokens=3000).stream(COUNT)
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
