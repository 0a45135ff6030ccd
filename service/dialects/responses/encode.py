"""Responses as OpenAI's API writes them: one JSON object, or the named events of a stream. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.dialects.failures import Failure, of_finished
from service.dialects.framing import EVENT_STREAM, PING, encode_json, named_sse
from service.dialects.responses.output import Output
from service.dialects.responses.request import Asked
from service.events import Event, Finished, FinishReason, Usage
from service.generation import Message

CUT_SHORT = (FinishReason.LENGTH, FinishReason.TIMEOUT)


@dataclass(frozen=True)
class Envelope:
    """What is known of a response before its first token."""

    id: str
    created: int
    model: str
    asked: Asked

    def begun(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": [],
            "usage": None,
            **self.asked.echo,
        }

    def ended(self, output: Output, end: Finished, now: int) -> dict[str, Any]:
        response = self.begun() | {"output": output.items, "usage": encode_usage(end.usage)}
        if end.reason not in CUT_SHORT:
            return response | {"status": "completed", "completed_at": now}
        response |= {
            "status": "incomplete",
            # A deadline is a limit too; `timed_out` tells it from the token limit.
            "incomplete_details": {"reason": "max_output_tokens"},
        }
        return response | ({"timed_out": True} if end.reason is FinishReason.TIMEOUT else {})

    def failed(self, output: Output, failure: Failure) -> dict[str, Any]:
        status = "cancelled" if failure.code == "cancelled" else "failed"
        error = {"code": failure.code or "server_error", "message": failure.message}
        return self.begun() | {"status": status, "output": output.items, "error": error}


def encode_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.generation_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.generation_tokens,
    }


def encode_response(
    envelope: Envelope, events: Sequence[Event]
) -> tuple[dict[str, Any], Message | None]:
    """The response, and what was said in it as a turn of the conversation."""
    output = Output(envelope.id.removeprefix("resp_"), summary=envelope.asked.summary)
    end = None
    for event in events:
        if isinstance(event, Finished):
            end = event
        for _ in output.feed(event):
            pass
    assert end is not None
    for _ in output.close("incomplete" if end.reason in CUT_SHORT else "completed"):
        pass
    return envelope.ended(output, end, int(time.time())), output.message


# Gets the response as it ended, and its turn of the conversation unless it failed.
Settle = Callable[[dict[str, Any], Message | None], None]


class ResponseEvents:
    """`respond.Encoder` of a streamed response."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, envelope: Envelope, settle: Settle) -> None:
        self.envelope = envelope
        self.settle = settle
        self._output = Output(envelope.id.removeprefix("resp_"), summary=envelope.asked.summary)
        self._sent = 0
        self._end: Finished | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        if not self._sent:
            begun = self.envelope.begun()
            out += (
                self._event("created", response=begun),
                self._event("in_progress", response=begun),
            )
        for event in events:
            if isinstance(event, Finished):
                if of_finished(event) is None:
                    self._end = event
                continue
            out += [self._event(name, **fields) for name, fields in self._output.feed(event)]
        return b"".join(out)

    def fail(self, failure: Failure) -> bytes:
        self._end = None
        out = self._close("incomplete")
        response = self.envelope.failed(self._output, failure)
        self.settle(response, None)
        return out + self._event("failed", response=response)

    def close(self) -> bytes:
        if self._end is None:
            return b""
        whole = self._end.reason not in CUT_SHORT
        out = self._close("completed" if whole else "incomplete")
        response = self.envelope.ended(self._output, self._end, int(time.time()))
        # Before the last event: who reads it may go on from this response at once.
        self.settle(response, self._output.message)
        return out + self._event("completed" if whole else "incomplete", response=response)

    def _close(self, status: str) -> bytes:
        return b"".join(self._event(name, **told) for name, told in self._output.close(status))

    def _event(self, name: str, /, **fields: Any) -> bytes:
        name = f"response.{name}"
        value = {"type": name, "sequence_number": self._sent, **fields}
        self._sent += 1
        return named_sse(name.encode(), encode_json(value))
