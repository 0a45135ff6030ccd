"""The events of a request, put together again: one Answer for each of the `n`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.events import (
    Event,
    Finished,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
    Usage,
)
from service.generation import ToolCall


@dataclass
class Answer:
    index: int
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[list[ToolCallDelta]] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    # Where they were asked for.
    ids: list[int] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    finished: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(parts[0].id or "", parts[0].name or "", "".join(p.arguments for p in parts))
            for parts in self.calls
        ]

    def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self.texts.append(event.text)
            case ReasoningDelta():
                self.thoughts.append(event.text)
            case ToolCallDelta():
                while len(self.calls) <= event.call:
                    self.calls.append([])
                self.calls[event.call].append(event)
            case PromptLogprobs():
                self.prompt_logprobs = event.tokens
                return
            case Finished():
                self.finished = event
                return
        self.logprobs += event.logprobs
        self.ids += event.ids


def collect(events: Iterable[Event]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for event in events:
        if event.index not in answers:
            answers[event.index] = Answer(event.index)
        answers[event.index].add(event)
    return [answers[index] for index in sorted(answers)]


def total_usage(ends: Sequence[Finished], n: int = 1) -> Usage:
    """What all answers took together; the prompt of each `n` answers counts once.

    Of the answers to one prompt the first shows what the prefix cache had: the others share the
    first one's prefill.
    """
    prompts: dict[int, Usage] = {}
    for end in sorted(ends, key=lambda end: end.index):
        prompts.setdefault(end.index // n, end.usage)
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in prompts.values()),
        cached_tokens=sum(usage.cached_tokens for usage in prompts.values()),
        generation_tokens=sum(end.usage.generation_tokens for end in ends),
        reasoning_tokens=sum(end.usage.reasoning_tokens for end in ends),
    )
