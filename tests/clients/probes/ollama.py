"""Ollama's own client."""

from __future__ import annotations

from typing import Any

import ollama

from tests.clients import probing
from tests.clients.probing import ANN, FUNCTION, GREETING, MODEL, NUMBERS, SUM, WEATHER


class Probes(probing.Probes):
    client = "ollama"

    def __init__(self, mount: probing.Mount) -> None:
        super().__init__(mount)
        self.ollama: Any = ollama.Client(host=mount.base)

    def chat(self, question: str, model: str = MODEL, **more: Any) -> Any:
        options = {"temperature": 0, "num_predict": 300}
        messages = [{"role": "user", "content": question}]
        return self.ollama.chat(model, messages, **{"options": options, **more})

    def plain(self) -> None:
        answer = self.chat(GREETING)
        (listed,) = self.ollama.list().models
        shown = self.ollama.show(MODEL)

        assert (answer.model, answer.message.role) == (MODEL, "assistant")
        assert "help" in answer.message.content
        assert (answer.done, answer.done_reason) == (True, "stop")
        assert answer.prompt_eval_count > 5 < answer.eval_count
        assert answer.total_duration > answer.eval_duration > 100_000  # nanoseconds
        assert (listed.model, len(listed.digest)) == (MODEL, 64)
        assert shown.modelinfo["llama.context_length"] == 4096
        assert {"completion", "tools", "thinking"} <= {*shown.capabilities}
        assert self.ollama.ps().models[0].context_length > 0

    def stream(self) -> None:
        whole = self.chat(GREETING)
        *parts, last = self.chat(GREETING, stream=True)

        assert len(parts) > 3
        assert all(part.message.role == "assistant" and not part.done for part in parts)
        text = "".join(part.message.content or "" for part in [*parts, last])
        assert text == whole.message.content
        assert (last.done, last.eval_count) == (True, whole.eval_count)

    def tools(self) -> None:
        whole = self.chat(WEATHER, tools=[FUNCTION])
        parts = [part.message for part in self.chat(WEATHER, tools=[FUNCTION], stream=True)]

        for messages in ([whole.message], parts):
            (call,) = [call for message in messages for call in message.tool_calls or ()]
            assert call.function.name == "get_weather"
            assert call.function.arguments == {"city": "Paris"}

    def structured(self) -> None:
        answer = self.chat(ANN, format=probing.PERSON)

        assert probing.is_ann(answer.message.content)

    def reasoning(self) -> None:
        answer = self.chat(SUM, think=True).message
        parts = [part.message for part in self.chat(SUM, think=True, stream=True)]

        assert "2 + 0 = 2" in answer.thinking
        assert answer.content == "12 + 30 = 42."
        assert "".join(part.thinking or "" for part in parts) == answer.thinking
        assert "".join(part.content or "" for part in parts) == answer.content

    def embeddings(self) -> None:
        answer = self.ollama.embed(MODEL, probing.TEXTS)
        alone = self.ollama.embeddings(MODEL, "two three")

        assert probing.are_vectors_of_texts(answer.embeddings)
        assert len(alone.embedding) == len(answer.embeddings[1])
        assert answer.prompt_eval_count > 3

    def errors(self) -> None:
        unknown = probing.raised(ollama.ResponseError, lambda: self.chat(GREETING, model="nope"))
        bad = probing.raised(
            ollama.ResponseError, lambda: self.chat(GREETING, options={"temperature": "hot"})
        )

        assert (unknown.status_code, unknown.error) == (404, "model 'nope' not found")
        assert bad.status_code == 400
        assert "temperature" in bad.error

    def abort(self) -> None:
        options = {"temperature": 0, "num_predict": 3000}
        parts = self.ollama.generate(MODEL, NUMBERS, raw=True, stream=True, options=options)
        next(parts)
        parts.close()


if __name__ == "__main__":
    probing.main(Probes)
