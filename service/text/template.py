"""A conversation to prompt text, by the chat template that the model's file carries.

The template sees what HuggingFace's `apply_chat_template` would show it. Where it wants
something else, that is found out by rendering a short conversation, not by the model's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta
from msgspec import Struct
from msgspec.structs import replace

from service.errors import InvalidRequest, ModelLoadFailed
from service.generation import Chat, Message, ToolCall
from service.text.continuation import MARK, begun, cut_at_mark, joined
from service.text.reasoning import NONE, ReasoningFormat, reasoning_format
from service.text.sandbox import Exhausted, Limits, Sandbox, limited
from service.text.tool_calls import tool_format
from service.text.tool_format import ToolFormat
from service.text.tool_words import in_words, needs_words
from service.text.turns import Manners, manners_of, tool_shapes, turns, with_tools

# What a model without a template most likely was trained on.
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Four times the largest in use (gpt-oss's). To compile so much code takes a second or two.
_LONGEST_SOURCE = 1 << 16
_SECONDS = 1.0

# Everything that a template can do wrong: it is a program, written by somebody unknown.
_TEMPLATE_BUGS = (
    TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip

# Names that a request must not set, for they are the service's to say.
_RESERVED = frozenset({
    "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "raise_exception",
    "strftime_now", "range", "dict", "namespace",
})  # fmt: skip

# What some templates of Llama 3 read, and fill with a day of 2024 where they are not told; as
# llama-server writes it. A request's own word for it comes first.
DATES = {"date_string": "%d %b %Y", "datetime": "%b %d %Y"}

_CALL = ToolCall("call00000", "probe", '{"probe": "x"}')
_USER, _SYSTEM = Message("user", "x"), Message("system", "a system probe")

_sandbox = Sandbox()


class Capabilities(Struct, frozen=True):
    """What the template has words for. `thinking_switch`: it reads `enable_thinking`."""

    tools: bool
    thinking: bool
    thinking_switch: bool
    system: bool


class ChatTemplate:
    """The template of one model. `bos` and `eos` are the text of those tokens.

    source: None or empty stands for ChatML, and `guessed` says so.
    A source that does not compile fails `render`, not this: the model still answers raw prompts.
    `reasoning.opened_by(prompt)` tells whether an answer to `prompt` begins within thoughts.
    """

    def __init__(
        self,
        source: str | None,
        bos: str = "",
        eos: str = "",
        *,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.guessed = not source
        self.source = source or CHATML
        self.reasoning: ReasoningFormat = NONE if self.guessed else reasoning_format(self.source)
        self.tool_format: ToolFormat | None = tool_format(self.source)
        self._globals: dict[str, Any] = {
            "bos_token": bos,
            "eos_token": eos,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime(now),
        }
        self._now = now
        # Firefunction's word for tools, which it takes as JSON text.
        self._functions = {"functions": "[]"} if "functools[" in self.source else {}
        self._in_words = needs_words(self.source)
        self._broken = ""
        self._names: frozenset[str] = frozenset()
        self._template = self._compiled()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            tools="tools" in self._names or self._in_words,
            thinking=self.reasoning.thinks,
            thinking_switch="enable_thinking" in self._names,
            system=self._manners.system,
        )

    def render(self, chat: Chat) -> str:
        """The prompt. `chat.template_variables` reach the template only if it reads them.

        Tools that the model must not call (`tool_choice` none) are not shown to it. A last message
        that is to be gone on with is the prompt's end, unchanged.
        Raises InvalidRequest where the template refuses or cannot render the messages, and
        ModelLoadFailed where the template itself is no good.
        """
        if not chat.continue_final_message:
            return self._whole(chat)
        *earlier, last = chat.messages
        start = begun(last, self.reasoning)
        if start.raw is not None:
            before = replace(chat, messages=tuple(earlier), add_generation_prompt=True)
            return joined(self._whole(before), start.raw, self.reasoning)
        marked = (*earlier, replace(last, content=MARK))
        whole = self._whole(replace(chat, messages=marked, add_generation_prompt=False))
        return cut_at_mark(whole) + (last.content or "")

    def _whole(self, chat: Chat) -> str:
        offered = chat.tools if chat.tool_choice.mode != "none" else ()
        tools = tool_shapes(offered, self._manners)
        messages = turns(chat.messages, self._manners)
        if tools and self._manners.tools_in_system:
            messages = with_tools(messages, tools)
        if tools and self._in_words:
            messages = in_words(messages, tools)
        variables = self._variables(chat) | (self._no_tools if not tools else {"tools": tools})
        if self._functions:
            variables["functions"] = json.dumps([tool["function"] for tool in tools], indent=4)
        return self._render(messages, variables, chat.add_generation_prompt)

    def _compiled(self) -> Template | None:
        try:
            if len(self.source) > _LONGEST_SOURCE:
                raise TemplateSyntaxError(f"it is larger than {_LONGEST_SOURCE >> 10} KiB", 1)
            tree = _sandbox.parse(self.source)
            self._names = frozenset(meta.find_undeclared_variables(tree))
            return _sandbox.from_string(tree)
        except _TEMPLATE_BUGS as error:
            self._broken = _reason(error)
            return None

    def _render(
        self, messages: list[dict[str, Any]], variables: dict[str, Any], add_generation_prompt: bool
    ) -> str:
        if self._template is None:
            raise _unusable(self._broken)
        size = len(json.dumps([messages, variables], ensure_ascii=False))
        limit = 4 * size + len(self.source) + (1 << 16)
        pieces = self._template.generate(
            self._today() | self._functions | variables,
            **self._globals,
            messages=messages,
            add_generation_prompt=add_generation_prompt,
        )
        try:
            with limited(Limits(limit, _SECONDS)):
                return _collected(pieces, limit)
        except (Exhausted, RecursionError, MemoryError) as error:
            raise _unusable(_reason(error)) from None
        except _TEMPLATE_BUGS as error:
            raise InvalidRequest(
                f"The model's chat template cannot render these messages: {_reason(error)}",
                param="messages",
            ) from None

    def _variables(self, chat: Chat) -> dict[str, Any]:
        chosen = {
            name: value
            for name, value in chat.template_variables.items()
            if name in self._names and name not in _RESERVED
        }
        if chat.enable_thinking is not None:
            chosen["enable_thinking"] = chat.enable_thinking
        if chat.reasoning_effort is not None:
            chosen["reasoning_effort"] = chat.reasoning_effort
        return chosen

    def _today(self) -> dict[str, str]:
        return {name: self._now().strftime(DATES[name]) for name in DATES if name in self._names}

    @cached_property
    def _no_tools(self) -> dict[str, Any]:
        """HuggingFace's None where there are no tools, unless the template runs through it."""
        none = {"tools": None}
        return none if self._probe((_USER,), Manners(), none) is not None else {}

    @cached_property
    def _manners(self) -> Manners:
        manners = manners_of(self.source)
        call = Message("assistant", tool_calls=(_CALL,))
        prompt = self._probe((_USER, call), manners, self._no_tools)
        as_text = prompt is None or "{'probe'" in prompt
        unseen = prompt is not None and _CALL.name not in prompt
        called = replace(manners, arguments_as_text=as_text)
        two = Message("assistant", tool_calls=(_CALL, replace(_CALL, id="call00001")))
        single = prompt is not None and self._probe((_USER, two), called, self._no_tools) is None
        prompt = self._probe((_SYSTEM, _USER), manners, self._no_tools)
        return replace(
            called,
            system=prompt is not None and str(_SYSTEM.content) in prompt,
            calls_as=self.tool_format if unseen else None,
            single_calls=single,
        )

    def _probe(
        self, messages: tuple[Message, ...], manners: Manners, variables: dict[str, Any]
    ) -> str | None:
        """A short conversation rendered, or None where the template fails."""
        try:
            return self._render(turns(messages, manners), variables, True)
        except InvalidRequest:
            return None
        except ModelLoadFailed as failure:
            # So much for two words: it will not get better with more.
            self._template, self._broken = None, failure.message
            return None


def _raise_exception(message: str) -> None:
    raise InvalidRequest(str(message)[:300], param="messages")


def _strftime(now: Callable[[], datetime]) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        # glibc takes a width, and `%1000000000d` at its word.
        if len(form) > 64 or re.search(r"\d{3}", form):
            raise Exhausted("it makes too much text")
        return now().strftime(form)

    return strftime_now


def _unusable(reason: str) -> ModelLoadFailed:
    known = "The model's chat template cannot be used: "
    return ModelLoadFailed(known + reason.removeprefix(known))


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]


def _collected(pieces: Iterator[str], limit: int) -> str:
    out: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise Exhausted("it makes too much text")
        out.append(piece)
    return "".join(out)
