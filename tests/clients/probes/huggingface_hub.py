"""HuggingFace's InferenceClient, which speaks to TGI by its address."""

from __future__ import annotations

import json
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, ValidationError

from tests.clients import probing
from tests.clients.probing import ANN, FUNCTION, GREETING, NUMBERS, SUM, WEATHER


class Probes(probing.Probes):
    client = "huggingface_hub"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        # Of its providers this alone knows /info and /health.
        self.hub: Any = huggingface_hub.InferenceClient(
            mount.base, provider="hf-inference", timeout=60
        )

    def chat(self, question: str, **more: Any) -> Any:
        messages = [{"role": "user", "content": question}]
        return self.hub.chat_completion(messages, temperature=0, max_tokens=300, **more)

    def plain(self) -> None:
        text = self.hub.text_generation(NUMBERS, max_new_tokens=12, details=True)
        answer = self.chat(GREETING)

        assert text.generated_text.startswith(" 4, 5")
        assert text.details.finish_reason == "length"
        assert text.details.generated_tokens == len(text.details.tokens) == 12
        assert answer.choices[0].message.role == "assistant"
        assert "help" in answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens > 5 < answer.usage.completion_tokens
        assert self.hub.get_endpoint_info()["max_total_tokens"] == 4096
        assert self.hub.health_check()

    def stream(self) -> None:
        whole = self.hub.text_generation(NUMBERS, max_new_tokens=12)
        events = [*self.hub.text_generation(NUMBERS, max_new_tokens=12, details=True, stream=True)]
        chunks = [chunk for chunk in self.chat(GREETING, stream=True) if chunk.choices]

        assert "".join(event.token.text for event in events) == whole
        assert events[-1].generated_text == whole
        assert events[-1].details.generated_tokens == len(events) == 12
        assert len(chunks) > 3
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == self.chat(GREETING).choices[0].message.content

    def tools(self) -> None:
        (choice,) = self.chat(WEATHER, tools=[FUNCTION]).choices

        (call,) = choice.message.tool_calls
        assert call.function.name == "get_weather"
        assert as_object(call.function.arguments) == {"city": "Paris"}

    def structured(self) -> None:
        named = {"name": "person", "schema": probing.PERSON}
        shape = {"type": "json_schema", "json_schema": named}
        grammar = {"type": "json", "value": probing.PERSON}
        answer = self.chat(ANN, response_format=shape)
        text = self.hub.text_generation(ANN, max_new_tokens=100, grammar=grammar)

        assert probing.is_ann(answer.choices[0].message.content)
        assert json.loads(text).keys() == {"name", "age"}

    def reasoning(self) -> None:
        message = self.chat(SUM).choices[0].message

        assert "2 + 0 = 2" in message.reasoning
        assert message.content == "12 + 30 = 42."

    def embeddings(self) -> None:
        raise probing.Absent(
            "its `feature_extraction` is for Text Embeddings Inference, a server other than TGI"
        )

    def errors(self) -> None:
        greedy = probing.raised(
            ValidationError, lambda: self.hub.text_generation("hi", temperature=0.0)
        )
        long = probing.raised(
            ValidationError, lambda: self.hub.text_generation("hi", max_new_tokens=10**7)
        )

        assert "strictly positive" in str(greedy)
        assert "must be <=" in str(long)
        refused = probing.raised(HfHubHTTPError, lambda: self.chat(GREETING, top_p=7))
        assert refused.response.status_code in (400, 422)  # the second is TGI's
        assert "top_p" in str(refused)

    def abort(self) -> None:
        parts = self.hub.text_generation(NUMBERS, max_new_tokens=3000, stream=True)
        next(iter(parts))
        parts.close()


def as_object(arguments: Any) -> Any:
    """TGI's chats give the arguments as an object, others their JSON."""
    return json.loads(arguments) if isinstance(arguments, str) else arguments


if __name__ == "__main__":
    probing.main(Probes)
