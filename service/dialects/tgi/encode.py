"""What /generate answers: one JSON object, or one server-sent event for each token. Pure.

Keys without a value are left out of the object and null in an event: so does TGI, and its client
checks for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.dialects.answers import Answer
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import EVENT_STREAM, PING, encode_json, sse
from service.dialects.openai.completions_encode import likelihood
from service.dialects.openai.shapes import finite
from service.dialects.tgi.request import GenerateOptions
from service.dialects.tgi.shapes import encode_token, encode_top, worded
from service.dialects.tgi.tokens import Token, TokenTexts, special
from service.events import Event, Finished, TextDelta, TokenLogprobs

if TYPE_CHECKING:
    from service.facts import ModelFacts

INCOMPLETE = {
    "error": "Incomplete generation stream",
    "error_type": "incomplete_generation_stream",
}


def encode_generation(
    answers: Sequence[Answer],
    options: GenerateOptions,
    facts: ModelFacts,
    prefill: list[dict[str, Any]],
) -> dict[str, Any]:
    best, *others = sorted(answers, key=likelihood, reverse=True)
    body: dict[str, Any] = {"generated_text": options.full_text + best.text}
    if options.details:
        body["details"] = encode_details(best, options, facts, prefill)
        if others:
            body["details"]["best_of_sequences"] = [
                {"generated_text": options.full_text + other.text}
                | encode_details(other, options, facts, prefill)
                for other in others
            ]
    return body


def encode_details(
    answer: Answer, options: GenerateOptions, facts: ModelFacts, prefill: list[dict[str, Any]]
) -> dict[str, Any]:
    end = answer.finished
    assert end is not None
    texts = TokenTexts()
    tokens = [*texts.feed(answer.text, answer.logprobs), *texts.flush(), *end_token(end)]
    details: dict[str, Any] = {
        "finish_reason": options.finish_reason(end),
        "generated_tokens": end.usage.generation_tokens,
        "seed": options.seed(end),
        "prefill": prefill,
        "tokens": [encode_token(token) for token in tokens],
    }
    if options.top_n_tokens:
        details["top_tokens"] = [encode_top(token, facts) for token in tokens]
    return details


def end_token(end: Finished) -> list[Token]:
    return [] if end.end_token is None else [special(end.end_token)]


def encode_prefill(
    ids: Sequence[int], pieces: dict[int, bytes], scores: Sequence[TokenLogprobs | None]
) -> list[dict[str, Any]]:
    """The prompt's tokens; the first was not predicted by anything."""
    return [
        {
            "id": id,
            "text": pieces.get(id, b"").decode("utf-8", "replace"),
            "logprob": None if score is None else finite(score.chosen.logprob),
        }
        for id, score in zip(ids, scores, strict=True)
    ]


class TokenEvents:
    """`respond.Encoder` of a stream of tokens. The last event also has the whole text."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, options: GenerateOptions, facts: ModelFacts, prompt_tokens: int) -> None:
        self.options = options
        self._facts = facts
        self._prompt_tokens = prompt_tokens
        self._tokens = TokenTexts()
        self._texts: list[str] = []
        self._index = 0

    def encode(self, events: Sequence[Event]) -> bytes:
        # An engine's step brings an answer's last token together with its end.
        ready: list[Token] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._texts.append(event.text)
                ready += self._tokens.feed(event.text, event.logprobs)
            elif isinstance(event, Finished) and of_finished(event) is None:
                ready += [*self._tokens.flush(), *end_token(event)]
                return self._last(ready, event)
        return b"".join(map(self._event, ready))

    def fail(self, failure: Failure) -> bytes:
        _, body = worded(failure)
        return sse(encode_json(body))

    def close(self) -> bytes:
        return b""

    def _last(self, ready: list[Token], end: Finished) -> bytes:
        if not ready:
            # Its time ran out between two tokens: there is none to say the end with.
            return sse(encode_json(INCOMPLETE))
        text = self.options.full_text + "".join(self._texts)
        details = None
        if self.options.details:
            details = {
                "finish_reason": self.options.finish_reason(end),
                "generated_tokens": end.usage.generation_tokens,
                "seed": self.options.seed(end),
                "input_length": self._prompt_tokens,
            }
        *before, last = ready
        return b"".join(map(self._event, before)) + self._event(last, text, details)

    def _event(
        self, token: Token, text: str | None = None, details: dict[str, Any] | None = None
    ) -> bytes:
        self._index += 1
        event: dict[str, Any] = {"index": self._index, "token": encode_token(token)}
        if self.options.top_n_tokens:
            event["top_tokens"] = encode_top(token, self._facts)
        return sse(encode_json(event | {"generated_text": text, "details": details}))
