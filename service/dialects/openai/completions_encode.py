"""Completions as the OpenAI dialect writes them: one JSON object, or chunks of a stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import msgspec

from service.dialects.answers import Answer, total_usage
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import DONE, EVENT_STREAM, PING, encode_json, sse
from service.dialects.openai.completions_request import CompletionOptions
from service.dialects.openai.shapes import (
    Envelope,
    UsageSoFar,
    encode_end,
    encode_error,
    encode_prompt_logprobs,
    encode_usage,
    finite,
    piece,
)
from service.events import (
    Event,
    Finished,
    Logprob,
    PromptLogprobs,
    TextDelta,
    TokenLogprobs,
    Usage,
)

# The ids of each prompt, by its number: known once it is admitted.
PromptIds = Mapping[int, Sequence[int]]
NO_IDS: Final[PromptIds] = {}
NO_TOKENS: Final[Mapping[int, int]] = {}


def encode_completions(
    envelope: Envelope,
    answers: Sequence[Answer],
    options: CompletionOptions,
    prompt_ids: PromptIds = NO_IDS,
) -> dict[str, Any]:
    ends = [answer.finished for answer in answers if answer.finished is not None]
    usage = total_usage(ends, options.best_of)
    if options.scoring:
        usage = msgspec.structs.replace(usage, generation_tokens=0, reasoning_tokens=0)
    # A prompt is scored once, and all its answers show it.
    scores = {
        answer.index // options.best_of: answer.prompt_logprobs
        for answer in answers
        if answer.prompt_logprobs is not None
    }
    body = envelope.fields("text_completion")
    body["choices"] = [
        encode_choice(answer, number, options, scores.get(answer.index // options.best_of))
        for number, answer in enumerate(chosen(answers, options))
    ]
    if options.token_ids:
        for choice, answer in zip(body["choices"], chosen(answers, options), strict=True):
            choice["token_ids"] = [] if options.scoring else answer.ids
            choice["prompt_token_ids"] = prompt_ids.get(answer.index // options.best_of)
    body["usage"] = encode_usage(usage)
    return body


def chosen(answers: Sequence[Answer], options: CompletionOptions) -> list[Answer]:
    """Of the `best_of` answers to each prompt, the `n` that the model found likeliest."""
    if options.best_of == options.n:
        return list(answers)
    kept: list[Answer] = []
    for start in range(0, len(answers), options.best_of):
        group = sorted(answers[start : start + options.best_of], key=likelihood, reverse=True)
        kept += group[: options.n]
    return kept


def likelihood(answer: Answer) -> float:
    return fmean(token.chosen.logprob for token in answer.logprobs) if answer.logprobs else 0.0


def encode_choice(
    answer: Answer,
    number: int,
    options: CompletionOptions,
    scores: Sequence[TokenLogprobs | None] | None,
) -> dict[str, Any]:
    echo = options.echoes[answer.index // options.best_of]
    text = "" if options.scoring else answer.text
    tokens: list[TokenLogprobs | None] = [] if options.scoring else list(answer.logprobs)
    if echo and scores is not None and options.logprobs is not None:
        tokens = [*scores, *tokens]
    choice: dict[str, Any] = {
        "text": echo + text,
        "index": number,
        "logprobs": None
        if options.logprobs is None
        else encode_tokens(tokens, options.token_ids_for_pieces, echo=echo),
    }
    if answer.finished is not None:
        choice |= {"finish_reason": "length"} if options.scoring else encode_end(answer.finished)
    if scores is not None and not echo:
        choice["prompt_logprobs"] = encode_prompt_logprobs(scores)
    return choice


def encode_tokens(
    tokens: Sequence[TokenLogprobs | None], as_ids: bool, *, echo: str = "", offset: int = 0
) -> dict[str, Any]:
    """`text_offset` counts characters of the choice's text, the echoed prompt included."""
    columns: dict[str, list[Any]] = {
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
    }  # fmt: skip
    for token in tokens:
        if token is None:
            # A prompt's first token has no probability, and its text is what the rest leaves.
            text, logprob, top = first_piece(echo, tokens), None, None
        else:
            text, logprob = piece(token.chosen, as_ids), finite(token.chosen.logprob)
            top = {piece(other, as_ids): finite(other.logprob) for other in alternatives(token)}
        row = (text, logprob, top, offset)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        # Not the length of `text`: that may be an id's name.
        offset += len(text if token is None else piece(token.chosen, False))
    return columns


def alternatives(token: TokenLogprobs) -> list[Logprob]:
    """The likeliest, and the sampled token where it is not among them."""
    known = any(other.token == token.chosen.token for other in token.top)
    return list(token.top) if known else [*token.top, token.chosen]


def first_piece(echo: str, tokens: Sequence[TokenLogprobs | None]) -> str:
    rest = b"".join(token.chosen.piece for token in tokens if token is not None)
    prompt = echo.encode()
    for length in range(len(prompt) + 1):
        if rest.startswith(prompt[length:]):
            return prompt[:length].decode("utf-8", "replace")
    return ""


class CompletionChunks:
    """`respond.Encoder` of a completion stream."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(
        self,
        envelope: Envelope,
        options: CompletionOptions,
        prompt_ids: PromptIds = NO_IDS,
        prompt_tokens: Mapping[int, int] = NO_TOKENS,
    ) -> None:
        self.options = options
        self._prompt_ids = prompt_ids
        self._head = b"data: " + encode_json(envelope.fields("text_completion"))[:-1]
        self._tail = b',"usage":null}\n\n' if options.include_usage else b"}\n\n"
        self._so_far = UsageSoFar(prompt_tokens) if options.continuous_usage else None
        self._offsets: dict[int, int] = {}
        self._prompts: dict[int, tuple[TokenLogprobs | None, ...]] = {}
        self._ends: list[Finished] = []
        # Answers whose prompt's ids are out.
        self._told: set[int] = set()

    def encode(self, events: Sequence[Event]) -> bytes:
        chunks: list[bytes] = []
        for event in events:
            if isinstance(event, PromptLogprobs):
                self._prompts[event.index // self.options.n] = event.tokens
                continue
            if isinstance(event, Finished) and of_finished(event) is not None:
                continue
            if event.index not in self._offsets:
                chunks.append(self._open(event.index))
            if self._so_far is not None and not self.options.scoring:
                self._so_far.add(event)
            if isinstance(event, Finished):
                self._ends.append(event)
                ending = self._ending(event)
                chunks.append(self._chunk(event.index, "", None, ending))
            elif isinstance(event, TextDelta) and not self.options.scoring:
                chunks.append(self._text(event))
        return b"".join(chunks)

    def fail(self, failure: Failure) -> bytes:
        self._ends.clear()
        return sse(encode_json(encode_error(failure)))

    def close(self) -> bytes:
        if not (self.options.include_usage and self._ends):
            return DONE
        usage = self._usage()
        return b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode_json(usage)) + DONE

    def _ending(self, end: Finished) -> dict[str, Any]:
        return {"finish_reason": "length"} if self.options.scoring else encode_end(end)

    def _open(self, index: int) -> bytes:
        """The echoed prompt, once for each answer."""
        number = index // self.options.n
        echo = self.options.echoes[number]
        self._offsets[index] = len(echo)
        if not echo:
            return b""
        tokens = self._prompts.get(number)
        as_ids = self.options.token_ids_for_pieces
        logprobs = None if tokens is None else encode_tokens(tokens, as_ids, echo=echo)
        return self._chunk(index, echo, logprobs)

    def _text(self, event: TextDelta) -> bytes:
        offset = self._offsets[event.index]
        self._offsets[event.index] += len(event.text)
        if not event.logprobs and not event.ids and not event.text:
            return b""
        if not event.logprobs and not event.ids and self._so_far is None:
            # The usual case: the JSON of the text between constants.
            return (
                b'%b,"choices":[{"text":%b,"index":%d,"logprobs":null,"finish_reason":null}]%b'
                % (
                    self._head,
                    encode_json(event.text),
                    event.index,
                    self._tail,
                )
            )
        as_ids = self.options.token_ids_for_pieces
        logprobs = None
        if self.options.logprobs is not None:
            logprobs = encode_tokens(event.logprobs, as_ids, offset=offset)
        return self._chunk(event.index, event.text, logprobs, None, event.ids)

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None,
        ending: dict[str, Any] | None = None,
        ids: Sequence[int] = (),
    ) -> bytes:
        choice: dict[str, Any] = {"text": text, "index": index, "logprobs": logprobs}
        choice |= ending or {"finish_reason": None}
        if self.options.token_ids:
            choice["token_ids"] = ids
            if index not in self._told:
                self._told.add(index)
                choice["prompt_token_ids"] = self._prompt_ids.get(index // self.options.n)
        tail = self._tail
        if self._so_far is not None:
            tail = b',"usage":%b}\n\n' % encode_json(self._so_far.encode())
        return b'%b,"choices":[%b]%b' % (self._head, encode_json(choice), tail)

    def _usage(self) -> dict[str, Any]:
        usage = total_usage(self._ends, self.options.n)
        if self.options.scoring:
            usage = Usage(usage.prompt_tokens, usage.cached_tokens)
        return encode_usage(usage)
