"""An answer as the engine wrote it, told apart into thoughts, content and tool calls."""

from __future__ import annotations

from collections.abc import Callable

from service.events import (
    Delta,
    ReasoningDelta,
    TextDelta,
    TokenEvent,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Tool
from service.text.calls import Calls, Part, call_id
from service.text.reasoning import NONE, Kind, ReasoningFormat, splitter
from service.text.tool_format import ToolFormat


class Interpreter:
    """One answer: `TokenEvent`s in, deltas out. It ends with `flush`.

    form, inside, begun: how the model marks its thoughts, and whether its prompt ended within them,
    or within the answer.
    tools: the syntax of its calls, None where no tools were offered: then nothing is a call.
    offered: the tools that it may call. stream_arguments, parallel: see `Calls`.

    Log-probabilities, and the tokens' count and ids, ride on the first delta that leaves after them.
    """

    def __init__(
        self,
        index: int = 0,
        form: ReasoningFormat = NONE,
        inside: bool = False,
        tools: ToolFormat | None = None,
        offered: tuple[Tool, ...] = (),
        *,
        begun: bool = False,
        stream_arguments: bool = True,
        parallel: bool = True,
        new_id: Callable[[], str] = call_id,
    ) -> None:
        self.index = index
        # Tokens sampled within thoughts, the tags included.
        self.reasoning_tokens = 0
        self._splitter = splitter(form, inside, begun=begun)
        self._calls = Calls(
            index, offered, stream_arguments=stream_arguments, parallel=parallel, new_id=new_id
        )
        self._tools = tools.parser(self._calls) if tools else None
        # Of tokens that no delta has left with yet.
        self._logprobs: tuple[TokenLogprobs, ...] = ()
        self._silent_tokens = 0
        self._ids: tuple[int, ...] = ()

    @property
    def called(self) -> bool:
        """Whether a tool call came out complete: the finish reason is then TOOL_CALLS."""
        return self._calls.completed > 0

    def feed(self, event: TokenEvent) -> list[Delta]:
        within = self._splitter.inside
        parts = self._splitter.feed(event.text)
        if within or self._splitter.inside:
            self.reasoning_tokens += event.tokens
        if event.logprobs:
            self._logprobs += event.logprobs
        self._silent_tokens += event.tokens
        if event.ids:
            self._ids += event.ids
        return self._laden(self._deltas(parts))

    def flush(self) -> list[Delta]:
        """The end of the answer: whatever was held back, as what it turned out to be."""
        deltas = self._deltas(self._splitter.flush())
        if self._tools:
            deltas += map(self._delta, self._tools.flush())
        if (self._logprobs or self._ids) and not deltas:
            deltas.append(TextDelta(self.index, ""))
        return self._laden(deltas)

    def _deltas(self, parts: list[tuple[Kind, str]]) -> list[Delta]:
        out: list[Delta] = []
        for kind, text in parts:
            if kind == "reasoning":
                out.append(ReasoningDelta(self.index, text))
            elif self._tools:
                out += map(self._delta, self._tools.feed(text))
            else:
                out.append(TextDelta(self.index, text))
        return out

    def _delta(self, part: Part) -> Delta:
        return TextDelta(self.index, part) if isinstance(part, str) else part

    def _laden(self, deltas: list[Delta]) -> list[Delta]:
        if deltas:
            carried = self._logprobs, self._silent_tokens, self._ids
            deltas[0] = _carrying(deltas[0], *carried)
            self._logprobs, self._silent_tokens, self._ids = (), 0, ()
        return deltas


def _carrying(
    delta: Delta, logprobs: tuple[TokenLogprobs, ...], tokens: int, ids: tuple[int, ...]
) -> Delta:
    if isinstance(delta, ToolCallDelta):
        return ToolCallDelta(
            delta.index, delta.call, delta.arguments, delta.id, delta.name, logprobs, tokens, ids
        )
    return type(delta)(delta.index, delta.text, logprobs, tokens, ids)
