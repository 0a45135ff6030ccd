"""Completions as llama-server writes them: one object, or the chunks of a stream. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.dialects.answers import Answer
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import EVENT_STREAM, PING, encode_json, sse
from service.dialects.llama_server.request import Options
from service.dialects.llama_server.shapes import (
    encode_probabilities,
    encode_settings,
    encode_speed,
    worded,
)
from service.dialects.prompt_progress import encode_progress
from service.events import Event, Finished, FinishReason, TextDelta, TokenLogprobs
from service.generation import SamplingParams

if TYPE_CHECKING:
    from service.serving.runtime import Progress


@dataclass(frozen=True)
class Envelope:
    """What is known of an answer before its first token."""

    model: str
    prompt: str
    prompt_tokens: int
    sampling: SamplingParams
    # Of one sequence; 0 where it is not known.
    n_ctx: int = 0
    cut_tokens: int = 0
    index: int = 0
    stream: bool = False


def encode_completion(envelope: Envelope, answer: Answer, options: Options) -> dict[str, Any]:
    text = "" if options.prompt_only else answer.text
    tokens = [] if options.prompt_only else answer.ids
    body = {
        "index": envelope.index,
        "content": text,
        "tokens": tokens if options.return_tokens else [],
    }
    if answer.finished is not None:
        body |= encode_end(envelope, answer.finished, text, options)
    if envelope.sampling.logprobs is not None and not options.prompt_only:
        body["completion_probabilities"] = encode_probabilities(answer.logprobs)
    return chosen(body, options.response_fields)


def encode_end(envelope: Envelope, end: Finished, text: str, options: Options) -> dict[str, Any]:
    """What is known once an answer is over."""
    kind = stop_type(end)
    fields: dict[str, Any] = {
        "stop": True,
        "model": envelope.model,
        "tokens_predicted": 0 if options.prompt_only else end.usage.generation_tokens,
        "tokens_evaluated": end.usage.prompt_tokens,
        "tokens_cached": end.usage.cached_tokens,
        "generation_settings": encode_settings(envelope.sampling, envelope.stream)
        | ({"seed": end.seed} if end.seed is not None else {}),
        "prompt": envelope.prompt,
        "has_new_line": "\n" in text,
        "truncated": envelope.cut_tokens > 0 or ended_by_context(envelope, end),
        "stop_type": "limit" if options.prompt_only else kind,
        "stopping_word": end.stop if kind == "word" else "",
    }
    if end.reason is FinishReason.TIMEOUT:
        fields["timed_out"] = True
    if (timings := encode_speed(end)) is not None:
        fields["timings"] = timings
    return fields


def ended_by_context(envelope: Envelope, end: Finished) -> bool:
    tokens = end.usage.prompt_tokens + end.usage.generation_tokens
    return end.reason is FinishReason.LENGTH and 0 < envelope.n_ctx <= tokens


def stop_type(end: Finished) -> str:
    if end.reason in (FinishReason.LENGTH, FinishReason.TIMEOUT):
        return "limit"
    return "word" if isinstance(end.stop, str) else "eos"


def chosen(body: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Only the fields named. A path goes into an object, and is the name of what is found there."""
    if not paths:
        return body
    kept = {}
    for path in paths:
        value: Any = body
        for part in path.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            kept[path] = value
    return kept


class CompletionChunks:
    """`respond.Encoder` of a streamed completion."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, envelope: Envelope, options: Options) -> None:
        self.envelope = envelope
        self.options = options
        self._texts: list[str] = []
        self._tokens = 0
        self._news: list[bytes] = []

    def tell(self, progress: Progress) -> None:
        """To be sent with what is encoded next."""
        chunk = {"index": 0, "content": "", "tokens": [], "stop": False}
        self._news.append(sse(encode_json(chunk | encode_progress(progress))))

    def encode(self, events: Sequence[Event]) -> bytes:
        out, self._news = self._news, []
        for event in events:
            if isinstance(event, TextDelta):
                self._tokens += event.tokens
                if (event.text or event.logprobs or event.ids) and not self.options.prompt_only:
                    out.append(self._text(event))
            elif isinstance(event, Finished) and of_finished(event) is None:
                out.append(self._end(event))
        return b"".join(out)

    def fail(self, failure: Failure) -> bytes:
        _, body = worded(failure)
        return sse(encode_json(body))

    def close(self) -> bytes:
        return b""

    def _text(self, event: TextDelta) -> bytes:
        self._texts.append(event.text)
        chunk = {
            "index": 0,
            "content": event.text,
            "tokens": event.ids if self.options.return_tokens else (),
            "stop": False,
            "tokens_predicted": self._tokens,
            "tokens_evaluated": self.envelope.prompt_tokens,
        }
        return sse(encode_json(chunk | self._probabilities(event.logprobs)))

    def _end(self, end: Finished) -> bytes:
        ending = encode_end(self.envelope, end, "".join(self._texts), self.options)
        body = {"index": 0, "content": "", "tokens": [], **ending}
        return sse(encode_json(chosen(body, self.options.response_fields)))

    def _probabilities(self, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
        if self.envelope.sampling.logprobs is None:
            return {}
        return {"completion_probabilities": encode_probabilities(tokens)}
