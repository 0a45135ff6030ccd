"""Thoughts and answer, told apart while they stream.

A model that thinks writes its thoughts first, between two tags, and the answer after them; which
tags is read off its chat template, in `FORMATS`. An opening tag counts only before any other
text: a `<think>` in the middle of an answer is part of the answer. gpt-oss and Muse Glimmer write
messages with headers instead of tags: see `harmony`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, Protocol

from msgspec import Struct

from service.text.harmony import HarmonyParser, MuseParser
from service.text.markers import partial

Kind = Literal["reasoning", "content"]


class ReasoningFormat(Struct, frozen=True):
    """How a model marks its thoughts.

    `controls` are the control tokens among the marks: the engine has to let their text through,
    or the parser sees no marks at all. `resume` is what the model may write between the end of
    its thoughts and whatever follows, `heading` what has to stand before an answer. `wrappers`
    are marks within the answer that are no part of it. A template of such a model contains
    `sign`, or one of the marks of thoughts where there is none.
    """

    name: str
    opener: str = ""
    closer: str = ""
    controls: tuple[str, ...] = ()
    resume: str = ""
    heading: str = ""
    wrappers: tuple[str, ...] = ()
    sign: str = ""

    @property
    def thinks(self) -> bool:
        return bool(self.opener)

    def spoken_by(self, template_source: str) -> bool:
        if self.sign:
            return self.sign in template_source
        return self.opener in template_source or self.closer in template_source

    def opened_by(self, prompt: str) -> bool:
        """Whether the prompt ends inside a block of thoughts that the model is to go on with."""
        return bool(self.opener) and prompt.rstrip().endswith(self.opener)


NONE = ReasoningFormat("none")
THINK = ReasoningFormat("think", "<think>", "</think>")
HARMONY = ReasoningFormat(
    "harmony",
    "<|channel|>analysis<|message|>",
    "<|end|>",
    ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"),
    resume="<|start|>assistant",
    heading="<|channel|>final<|message|>",
    sign="<|channel|>analysis<|message|>",
)
MUSE = ReasoningFormat(
    "muse",
    "to=self<|message|>",
    "<|eom|>",
    ("<|start|>", "<|message|>", "<|eom|>"),
    resume="<|start|>assistant ",
    heading="to=user<|message|>",
    sign="to=self<|message|>",
)
_RESPONSES = (
    "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>",
)  # fmt: skip
FORMATS = (
    HARMONY,
    MUSE,
    ReasoningFormat("magistral", "[THINK]", "[/THINK]", ("[THINK]", "[/THINK]")),
    ReasoningFormat("seed", "<seed:think>", "</seed:think>"),
    ReasoningFormat(
        "command",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        ("<|START_THINKING|>", "<|END_THINKING|>", *_RESPONSES),
        wrappers=_RESPONSES,
    ),
    ReasoningFormat("kimi", "◁think▷", "◁/think▷"),
    ReasoningFormat(
        "kimi-k3",
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        ("<|open|>", "<|close|>", "<|sep|>"),
        wrappers=(
            "<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>",
        ),
        sign="<|sep|>",
    ),
    ReasoningFormat(
        "solar",
        "<|think|>",
        "<|end|>",
        ("<|think|>", "<|end|>", "<|begin|>", "<|content|>"),
        resume="<|begin|>assistant",
        heading="<|content|>",
        wrappers=("<|begin|>assistant", "<|content|>"),
        sign="<|begin|>assistant<|think|>",
    ),
    ReasoningFormat(
        "gemma",
        "<|channel>thought",
        "<channel|>",
        ("<|channel>", "<channel|>"),
        sign="<channel|>",
    ),
    ReasoningFormat(
        "apertus",
        "<|inner_prefix|>",
        "<|inner_suffix|>",
        ("<|inner_prefix|>", "<|inner_suffix|>"),
    ),
    ReasoningFormat("minimax-m3", "<mm:think>", "</mm:think>"),
    ReasoningFormat(
        "hunyuan", "<think:opensource>", "</think:opensource>", sign="':opensource'"
    ),
    ReasoningFormat(
        "apriel",
        "Here are my reasoning steps:",
        "[BEGIN FINAL RESPONSE]",
        wrappers=("[END FINAL RESPONSE]",),
    ),
    # Granite 3.2, and after it 3.3.
    ReasoningFormat(
        "granite-3.2", "Here is my thought process:", "Here is my response:"
    ),
    ReasoningFormat(
        "granite",
        "<think>",
        "</think>",
        wrappers=("<response>", "</response>"),
        sign="<response></response>",
    ),
    # Functionary has no thoughts, but says to whom an answer goes.
    ReasoningFormat("functionary", heading="all\n", sign=">>>all"),
    THINK,
)  # fmt: skip


@lru_cache(maxsize=256)
def reasoning_format(template_source: str) -> ReasoningFormat:
    """The first format whose marks the template mentions.

    DeepSeek-R1's mentions only the closing tag, to cut the thoughts of earlier turns off.
    """
    return next((known for known in FORMATS if known.spoken_by(template_source)), NONE)


# Whose answers are messages with headers.
_OF_MESSAGES: dict[str, type[HarmonyParser]] = {HARMONY.name: HarmonyParser, MUSE.name: MuseParser}


class Splitter(Protocol):
    """`inside` says whether the text fed so far ended within thoughts."""

    @property
    def inside(self) -> bool: ...

    def feed(self, text: str) -> list[tuple[Kind, str]]: ...

    def flush(self) -> list[tuple[Kind, str]]: ...


def splitter(form: ReasoningFormat, inside: bool = False, *, begun: bool = False) -> Splitter:
    """The parser of `form`, for an answer whose prompt ended `inside` thoughts or not; or after
    the answer itself had `begun`."""
    if form.name in _OF_MESSAGES:
        return _OF_MESSAGES[form.name](inside, begun=begun)
    return ReasoningParser(form, inside, begun=begun)


class ReasoningParser:
    """Splits text into what lies between the tags of `form` and what follows them.

    The tags never come out, nor does white space that follows one, or that stands before an answer
    without thoughts; a wrapper within an answer leaves what is around it. A block that never ends
    stays reasoning; a closing tag before anything else ends thoughts that were none. The states are
    methods: each takes the text at hand, appends what it releases, and returns the text that it
    leaves to the next state.
    """

    def __init__(self, form: ReasoningFormat, inside: bool = False, *, begun: bool = False) -> None:
        self.inside = inside and form.thinks
        self._opener, self._closer = form.opener, form.closer
        self._wrappers = form.wrappers
        self._firsts = tuple(filter(None, (form.opener, form.closer, form.heading)))
        self._held = ""
        free = begun or not self._firsts
        self._state = self._opened if self.inside else self._answer if free else self._start

    def feed(self, text: str) -> list[tuple[Kind, str]]:
        out: list[tuple[Kind, str]] = []
        if self._held:
            text, self._held = self._held + text, ""
        while text:
            text = self._state(text, out)
        return out

    def flush(self) -> list[tuple[Kind, str]]:
        """The end of the answer: what was held back began no tag after all."""
        text, self._held = self._held, ""
        if not text:
            return []
        if self._state == self._start:
            # An answer of nothing but white space is one all the same.
            text = text.lstrip() or text
        return [("reasoning" if self.inside else "content", text)]

    def _start(self, text: str, out: list[tuple[Kind, str]]) -> str:
        """Only white space so far: thoughts may begin."""
        begun = text.lstrip()
        for first in self._firsts:
            if begun.startswith(first):
                self.inside = first == self._opener
                self._state = self._opened if self.inside else self._closed
                return begun[len(first) :]
        if any(first.startswith(begun) for first in self._firsts):
            self._held = text
            return ""
        self._state = self._closed
        return begun

    def _opened(self, text: str, out: list[tuple[Kind, str]]) -> str:
        text = text.lstrip()
        if text:
            self._state = self._thoughts
        return text

    def _thoughts(self, text: str, out: list[tuple[Kind, str]]) -> str:
        thoughts, closer, rest = text.partition(self._closer)
        if closer:
            self.inside, self._state = False, self._closed
        else:
            safe = partial(text, self._closer)
            thoughts, self._held = text[:safe], text[safe:]
        if thoughts:
            out.append(("reasoning", thoughts))
        return rest

    def _closed(self, text: str, out: list[tuple[Kind, str]]) -> str:
        """The answer is about to begin, wrapped or not."""
        text = text.lstrip()
        wrapper = next((each for each in self._wrappers if text.startswith(each)), "")
        if text and not wrapper:
            if any(each.startswith(text) for each in self._wrappers):
                self._held = text
                return ""
            self._state = self._answer
        return text[len(wrapper) :]

    def _answer(self, text: str, out: list[tuple[Kind, str]]) -> str:
        found = [(at, each) for each in self._wrappers if (at := text.find(each)) >= 0]
        if found:
            at, wrapper = min(found)
            answer, rest = text[:at], text[at + len(wrapper) :]
        else:
            safe = min((partial(text, each) for each in self._wrappers), default=len(text))
            answer, rest, self._held = text[:safe], "", text[safe:]
        if answer:
            out.append(("content", answer))
        elif not found:
            return ""
        return rest
