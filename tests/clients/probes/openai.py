"""OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, FUNCTION, GREETING, MODEL, SUM, WEATHER


class Person(pydantic.BaseModel):
    name: str
    age: int


class Probes(probing.Probes):
    client = "openai"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.openai: Any = openai.OpenAI(base_url=mount.base, api_key="unused", max_retries=0)

    def asked(self, question: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 300, **more}

    def plain(self) -> None:
        answer = self.openai.chat.completions.create(**self.asked(GREETING))

        assert answer.id.startswith("chatcmpl-")
        assert (answer.object, answer.model) == ("chat.completion", MODEL)
        (choice,) = answer.choices
        assert choice.message.role == "assistant"
        assert "help" in choice.message.content
        assert choice.finish_reason == "stop"
        usage = answer.usage
        assert usage.prompt_tokens > 5 < usage.completion_tokens
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert answer._request_id

    def stream(self) -> None:
        whole = self.openai.chat.completions.create(**self.asked(GREETING))
        asked = self.asked(GREETING, stream_options={"include_usage": True})
        with self.openai.chat.completions.stream(**asked) as events:
            parts = [event.delta for event in events if event.type == "content.delta"]
            final = events.get_final_completion()

        assert len(parts) > 3
        assert "".join(parts) == final.choices[0].message.content
        assert final.choices[0].message.content == whole.choices[0].message.content
        assert final.choices[0].message.role == "assistant"
        assert final.usage.completion_tokens == whole.usage.completion_tokens

    def tools(self) -> None:
        asked = self.asked(WEATHER, tools=[FUNCTION])
        whole = self.openai.chat.completions.create(**asked)
        with self.openai.chat.completions.stream(**asked) as events:
            final = events.get_final_completion()

        for answer in (whole, final):
            (choice,) = answer.choices
            (call,) = choice.message.tool_calls
            assert (choice.finish_reason, call.type) == ("tool_calls", "function")
            assert call.id
            assert call.function.name == "get_weather"
            assert json.loads(call.function.arguments) == {"city": "Paris"}

    def structured(self) -> None:
        answer = self.openai.chat.completions.parse(**self.asked(ANN, response_format=Person))

        assert answer.choices[0].message.parsed == Person(name="Ann", age=30)

    def reasoning(self) -> None:
        answer = self.openai.chat.completions.create(**self.asked(SUM))

        message = answer.choices[0].message
        assert "2 + 0 = 2" in message.model_extra["reasoning"]
        assert message.content == "12 + 30 = 42."
        assert answer.usage.completion_tokens_details.reasoning_tokens > 5

    def embeddings(self) -> None:
        answer = self.openai.embeddings.create(model=MODEL, input=probing.TEXTS)

        assert [entry.index for entry in answer.data] == [0, 1, 2]
        assert probing.are_vectors_of_texts([entry.embedding for entry in answer.data])
        assert answer.usage.prompt_tokens > 3

    def errors(self) -> None:
        unknown = self.refused(openai.NotFoundError, self.asked(GREETING, model="nope"))
        long = self.refused(openai.BadRequestError, self.asked(probing.TOO_LONG))
        self.refused(openai.BadRequestError, self.asked(GREETING, max_tokens=-1))

        assert unknown.code in ("model_not_found", "404")  # the second is vLLM's
        assert "nope" in unknown.message
        assert "context length" in long.message

    def refused(self, kind: type[openai.APIStatusError], asked: Any) -> Any:
        return probing.raised(kind, lambda: self.openai.chat.completions.create(**asked))

    def abort(self) -> None:
        asked = self.asked(COUNT, max_tokens=3000, extra_body={"ignore_eos": True})
        with self.openai.chat.completions.create(**asked, stream=True) as stream:
            next(iter(stream))


if __name__ == "__main__":
    probing.main(Probes)
