"""A real engine process at the other end of a socket, driven step by step by a test."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.engine.wire import (
    Command,
    Embed,
    EngineParams,
    Fatal,
    FrameDecoder,
    Load,
    LoadFailed,
    Ready,
    Refused,
    Report,
    Step,
    Submit,
    encode,
)
from service.events import Embedding, Finished, PromptLogprobs, TokenEvent
from service.facts import ModelFacts
from service.generation import Grammar, SamplingParams, Selection, Text, Tokens

DEMO = Path(__file__).parents[2] / "service" / "catalog" / "demo.gguf"
GREEDY = SamplingParams(temperature=0, max_tokens=48)


@dataclass
class Answer:
    events: list[TokenEvent] = field(default_factory=list)
    prompt_logprobs: PromptLogprobs | None = None
    embeddings: list[Embedding] = field(default_factory=list)
    end: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)


class Child:
    def __init__(self, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        self.process = process
        self._socket = end
        self._decoder: FrameDecoder[Report] = FrameDecoder(Report)
        self._id = 0
        self.facts: ModelFacts

    def send(self, command: Command) -> None:
        self._socket.sendall(encode(command))

    def receive(self) -> list[Report]:
        """The next messages; raises EOFError when the engine is gone."""
        data = self._socket.recv(1 << 20)
        if not data:
            raise EOFError
        return self._decoder.feed(data)

    def load(self, params: EngineParams) -> Ready | LoadFailed:
        self.send(Load(params))
        while True:
            for report in self.receive():
                if isinstance(report, Ready):
                    self.facts = report.facts
                if isinstance(report, Ready | LoadFailed):
                    return report

    def submit(
        self,
        prompt: str | list[int],
        sampling: SamplingParams = GREEDY,
        *,
        n: int = 1,
        grammar: Grammar | None = None,
        adapters: Selection = (),
    ) -> int:
        self._id += 1
        text = Text(prompt) if isinstance(prompt, str) else Tokens(tuple(prompt))
        self.send(Submit(self._id, text, sampling, n, grammar, adapters=adapters))
        return self._id

    def embed(self, *texts: str, adapters: Selection = ()) -> list[NDArray[np.float32]]:
        """The vectors of `texts`, as they come: of length 1."""
        self._id += 1
        self.send(Embed(self._id, tuple(map(Text, texts)), adapters=adapters))
        (answer,) = self.collect(self._id)[self._id]  # type: ignore[misc]
        return [np.frombuffer(event.vector, "<f4") for event in answer.embeddings]

    def collect(self, *ids: int, n: int = 1) -> dict[int, list[Answer] | Refused]:
        """Wait until every answer of these requests has ended."""
        answers: dict[int, list[Answer]] = defaultdict(lambda: [Answer() for _ in range(n)])
        refused: dict[int, Refused] = {}
        while not all(
            id in refused or (id in answers and all(a.end for a in answers[id])) for id in ids
        ):
            for report in self.receive():
                if isinstance(report, Step):
                    for id, event in report.outputs:
                        # The index of an embedding is its input's: its request has one answer.
                        own = not isinstance(event, Embedding)
                        answer = answers[id][event.index if own else 0]
                        if isinstance(event, TokenEvent):
                            answer.events.append(event)
                        elif isinstance(event, Finished):
                            answer.end = event
                        elif isinstance(event, PromptLogprobs):
                            answer.prompt_logprobs = event
                        else:
                            answer.embeddings.append(event)
                elif isinstance(report, Refused):
                    refused[report.id] = report
                elif isinstance(report, Fatal):
                    raise AssertionError(report.message)
        return {id: refused.get(id) or answers[id] for id in ids}

    def ask(
        self, prompt: str | list[int], sampling: SamplingParams = GREEDY, **more: Any
    ) -> Answer:
        id = self.submit(prompt, sampling, **more)
        answers = self.collect(id, n=more.get("n", 1))[id]
        assert isinstance(answers, list), answers
        return answers[0]


@contextmanager
def child(params: EngineParams | None = None) -> Iterator[Child]:
    ours, theirs = socket.socketpair()
    ours.settimeout(50)
    with ours, theirs:
        command = [sys.executable, "-m", "service.engine", "--fd", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        theirs.close()
        try:
            engine = Child(process, ours)
            if params is not None:
                assert isinstance(engine.load(params), Ready)
            yield engine
        finally:
            process.kill()
            process.wait()


def chat(question: str, think: bool = True) -> str:
    block = "" if think else "<think>\n\n</think>\n\n"
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{block}"
