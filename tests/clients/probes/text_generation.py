"""TGI's own client, which needs a huggingface-hub older than 1."""

from __future__ import annotations

import json
from typing import Any

import text_generation
from text_generation.errors import ValidationError
from text_generation.types import Grammar, GrammarType, Message, Tool

from tests.clients import probing
from tests.clients.probing import ANN, FUNCTION, GREETING, NUMBERS, WEATHER


class Probes(probing.Probes):
    client = "text-generation"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.tgi: Any = text_generation.Client(mount.base, timeout=60)

    def chat(self, question: str, **more: Any) -> Any:
        messages = [Message(role="user", content=question)]
        return self.tgi.chat(messages, temperature=0, max_tokens=300, **more)

    def plain(self) -> None:
        text = self.tgi.generate(NUMBERS, max_new_tokens=12, decoder_input_details=True)
        answer = self.chat(GREETING)

        assert text.generated_text.startswith(" 4, 5")
        assert text.details.finish_reason == "length"
        assert text.details.generated_tokens == len(text.details.tokens) == 12
        assert "".join(token.text for token in text.details.tokens) == text.generated_text
        assert "".join(token.text for token in text.details.prefill) == NUMBERS
        assert answer.choices[0].message.role == "assistant"
        assert "help" in answer.choices[0].message.content
        assert answer.usage["completion_tokens"] > 5

    def stream(self) -> None:
        whole = self.tgi.generate(NUMBERS, max_new_tokens=12)
        events = [*self.tgi.generate_stream(NUMBERS, max_new_tokens=12)]

        assert len(events) == 12
        assert "".join(event.token.text for event in events) == whole.generated_text
        assert [event.token.id for event in events] == [token.id for token in whole.details.tokens]
        assert events[-1].generated_text == whole.generated_text
        assert events[-1].details.generated_tokens == 12

    def tools(self) -> None:
        (choice,) = self.chat(WEATHER, tools=[Tool(**FUNCTION)], tool_choice="auto").choices

        (call,) = choice.message.tool_calls
        assert call["function"]["name"] == "get_weather"
        arguments = call["function"]["arguments"]
        assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == {
            "city": "Paris"
        }

    def structured(self) -> None:
        grammar = Grammar(type=GrammarType.Json, value=probing.PERSON)
        text = self.tgi.generate(ANN, max_new_tokens=100, grammar=grammar).generated_text

        person = json.loads(text)
        assert isinstance(person.pop("name"), str)
        assert isinstance(person.pop("age"), int)
        assert person == {}

    def reasoning(self) -> None:
        raise probing.Absent("its messages have no field for a thought")

    def embeddings(self) -> None:
        raise probing.Absent("TGI's API has no embeddings")

    def errors(self) -> None:
        long = probing.raised(
            ValidationError, lambda: self.tgi.generate("hi", max_new_tokens=10**7)
        )
        streamed = probing.raised(
            ValidationError, lambda: [*self.tgi.generate_stream("hi", max_new_tokens=10**7)]
        )

        assert "must be <=" in str(long)
        assert str(streamed) == str(long)

    def abort(self) -> None:
        parts = self.tgi.generate_stream(NUMBERS, max_new_tokens=3000)
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
