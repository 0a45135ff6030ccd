"""The output items of a response, and the events that tell how they come about. Pure.

Thoughts, text and calls are items; each is opened, filled and closed before the next one. A whole
response has the items alone, so both kinds of it are made here and cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from service.dialects.openai.shapes import encode_logprobs
from service.events import (
    Event,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import Message, ToolCall

# An event: its name after "response.", and its fields.
Told = tuple[str, dict[str, Any]]


class Output:
    """`summary`: thoughts are shown as a summary, in full, and not as reasoning text."""

    def __init__(self, id: str, *, summary: bool = False) -> None:
        self.items: list[dict[str, Any]] = []
        self._id = id
        self._summary = summary
        # The kind of the item that is open, and which call it is: None between items.
        self._open: tuple[str, int] | None = None
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprobs] = []

    def feed(self, event: Event) -> Iterator[Told]:
        match event:
            case TextDelta():
                if event.text or event.logprobs:
                    yield from self._enter("message", 0)
                    yield self._text(event)
            case ReasoningDelta():
                yield from self._enter("reasoning", 0)
                if event.text:
                    self._texts.append(event.text)
                    yield self._tell(f"{self._thought}.delta", self._part, delta=event.text)
            case ToolCallDelta():
                yield from self._enter("function_call", event.call, event)
                if event.arguments:
                    self._texts.append(event.arguments)
                    yield self._tell("function_call_arguments.delta", delta=event.arguments)
            case _:
                pass

    def close(self, status: str = "completed") -> Iterator[Told]:
        """Closes the item that is open, if one is."""
        if self._open is None:
            return
        kind, text, item = self._open[0], "".join(self._texts), self.items[-1]
        match kind:
            case "function_call":
                item["arguments"] = text
                name = {"name": item["name"]}
                yield self._tell("function_call_arguments.done", name, arguments=text)
            case "message":
                logprobs = self._encoded(self._logprobs)
                part = {"text": text, "annotations": [], "logprobs": logprobs}
                item["content"] = [{"type": "output_text", **part}]
                yield self._tell(
                    "output_text.done", {"content_index": 0}, text=text, logprobs=logprobs
                )
                yield self._tell("content_part.done", {"content_index": 0}, part=item["content"][0])
            case _:
                yield from self._close_thoughts(item, text)
        item["status"] = status
        self._open, self._texts, self._logprobs = None, [], []
        yield "output_item.done", {"output_index": len(self.items) - 1, "item": dict(item)}

    @property
    def message(self) -> Message:
        """All of it as one turn of a conversation."""
        texts, thoughts, calls = [], [], []
        for item in self.items:
            if item["type"] == "message":
                texts += [part["text"] for part in item["content"]]
            elif item["type"] == "reasoning":
                parts = [*item["summary"], *item.get("content", ())]
                thoughts += [part["text"] for part in parts]
            else:
                calls.append(ToolCall(item["call_id"], item["name"], item["arguments"]))
        return Message(
            "assistant",
            "".join(texts) if texts or not calls else None,
            "".join(thoughts) or None,
            tuple(calls),
        )

    def _enter(self, kind: str, call: int, begun: ToolCallDelta | None = None) -> Iterator[Told]:
        if self._open == (kind, call):
            return
        yield from self.close()
        self._open = (kind, call)
        item: dict[str, Any] = {"type": kind, "id": self._item_id(kind), "status": "in_progress"}
        if begun is not None:
            item |= {"call_id": begun.id or "", "name": begun.name or "", "arguments": ""}
        elif kind == "message":
            item |= {"role": "assistant", "content": []}
        else:
            item["summary"] = []
            if not self._summary:
                item["content"] = []
        self.items.append(item)
        yield "output_item.added", {"output_index": len(self.items) - 1, "item": dict(item)}
        if kind == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._tell("content_part.added", {"content_index": 0}, part=part)
        elif kind == "reasoning":
            yield self._tell(f"{self._thought_part}.added", self._part, part=self._thoughts(""))

    def _text(self, event: TextDelta) -> Told:
        self._texts.append(event.text)
        self._logprobs += event.logprobs
        logprobs = self._encoded(event.logprobs)
        where = {"content_index": 0}
        return self._tell("output_text.delta", where, delta=event.text, logprobs=logprobs)

    def _close_thoughts(self, item: dict[str, Any], text: str) -> Iterator[Told]:
        part = self._thoughts(text)
        item["summary" if self._summary else "content"] = [part]
        yield self._tell(f"{self._thought}.done", self._part, text=text)
        yield self._tell(f"{self._thought_part}.done", self._part, part=part)

    @property
    def _thought(self) -> str:
        return "reasoning_summary_text" if self._summary else "reasoning_text"

    @property
    def _thought_part(self) -> str:
        return "reasoning_summary_part" if self._summary else "content_part"

    @property
    def _part(self) -> dict[str, int]:
        return {"summary_index" if self._summary else "content_index": 0}

    def _thoughts(self, text: str) -> dict[str, str]:
        return {"type": "summary_text" if self._summary else "reasoning_text", "text": text}

    def _tell(self, name: str, where: dict[str, Any] | None = None, **fields: Any) -> Told:
        place = {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}
        return name, {**place, **(where or {}), **fields}

    def _item_id(self, kind: str) -> str:
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        return f"{prefix}_{self._id}_{len(self.items)}"

    def _encoded(self, logprobs: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
        return encode_logprobs(logprobs)["content"] if logprobs else []
