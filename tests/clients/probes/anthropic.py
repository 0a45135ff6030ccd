"""Anthropic's own client."""

from __future__ import annotations

from typing import Any

import anthropic
import pydantic

from tests.clients import probing
from tests.clients.probing import ANN, COUNT, GREETING, MODEL, SUM, WEATHER

TOOL = {
    "name": probing.TOOL_NAME,
    "description": probing.TOOL_DESCRIPTION,
    "input_schema": probing.CITY,
}


class Person(pydantic.BaseModel):
    name: str
    age: int


class Probes(probing.Probes):
    client = "anthropic"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.anthropic: Any = anthropic.Anthropic(
            base_url=mount.base, api_key="unused", max_retries=0
        )

    def asked(self, question: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        greedy = {"temperature": 0}
        return {
            "model": MODEL, "messages": messages, "max_tokens": 300, "extra_body": greedy, **more
        }  # fmt: skip

    def plain(self) -> None:
        asked = self.asked(GREETING)
        answer = self.anthropic.messages.create(**asked)
        counted = self.anthropic.messages.count_tokens(model=MODEL, messages=asked["messages"])

        assert answer.id.startswith("msg_")
        assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
        (block,) = answer.content
        assert block.type == "text"
        assert "help" in block.text
        assert answer.stop_reason == "end_turn"
        usage = answer.usage
        assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens > 5
        assert usage.output_tokens > 5

    def stream(self) -> None:
        whole = self.anthropic.messages.create(**self.asked(GREETING))
        with self.anthropic.messages.stream(**self.asked(GREETING)) as stream:
            parts = [*stream.text_stream]
            final = stream.get_final_message()

        assert len(parts) > 3
        assert "".join(parts) == final.content[0].text == whole.content[0].text
        assert final.stop_reason == whole.stop_reason
        assert final.usage.output_tokens == whole.usage.output_tokens

    def tools(self) -> None:
        asked = self.asked(WEATHER, tools=[TOOL])
        whole = self.anthropic.messages.create(**asked)
        with self.anthropic.messages.stream(**asked) as stream:
            final = stream.get_final_message()

        for answer in (whole, final):
            (use,) = [block for block in answer.content if block.type == "tool_use"]
            assert use.id
            assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
            assert answer.stop_reason == "tool_use"

    def structured(self) -> None:
        answer = self.anthropic.messages.parse(**self.asked(ANN, output_format=Person))

        assert answer.parsed_output == Person(name="Ann", age=30)

    def reasoning(self) -> None:
        thinking = {"type": "adaptive"}
        thought, text = self.anthropic.messages.create(**self.asked(SUM, thinking=thinking)).content

        assert (thought.type, text.type) == ("thinking", "text")
        assert "2 + 0 = 2" in thought.thinking
        assert text.text.strip() == "12 + 30 = 42."

    def embeddings(self) -> None:
        raise probing.Absent("Anthropic's API has no embeddings")

    def errors(self) -> None:
        unknown = self.refused(anthropic.NotFoundError, self.asked(GREETING, model="nope"))
        long = self.refused(anthropic.BadRequestError, self.asked(probing.TOO_LONG))
        self.refused(anthropic.BadRequestError, self.asked(GREETING, max_tokens=-1))

        assert unknown.body["error"]["type"] == "not_found_error"
        assert "nope" in unknown.message
        assert long.body["error"]["type"] == "invalid_request_error"
        assert "prompt is too long" in long.message

    def refused(self, kind: type[anthropic.APIStatusError], asked: Any) -> Any:
        return probing.raised(kind, lambda: self.anthropic.messages.create(**asked))

    def abort(self) -> None:
        asked = self.asked(COUNT, max_tokens=3000)
        with self.anthropic.messages.stream(**asked) as stream:
            next(iter(stream.text_stream))


if __name__ == "__main__":
    probing.main(Probes)
