"""One syntax of tool calls, told both ways: how it is read, and how a grammar forces it."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from service.generation import Tool, ToolCall
from service.text.calls import Calls, Reader
from service.text.gbnf_rules import GbnfRules
from service.text.tool_call_reader import CallReader
from service.text.tool_grammar import json_arguments
from service.text.tool_parser import Frame, ToolParser

_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|]")


class ToolFormat(Struct, frozen=True):
    """A parser reads the calls, within the marks of `frame`; the rest writes them, for grammars.

    A call is `head`, the tool's name, `middle`, the arguments, `tail`; all the calls of an answer
    are `opener`, calls with `separator` between them (None: there can be only one), `closer`. In
    `opener`, `head` and `middle`, `{n}` is any number, `{lf}` a line break that may be missing.
    `heading` stands before all that, and is the thoughts' parser's to read; in it `{name}` is any
    name. `arguments` writes a tool's as GBNF.
    Chat templates of such models contain all `signs`, one of `any_of` if there are any, and
    nothing of `unless`.
    `trigger` is a regular expression (ECMAScript) whose first group matches where calls begin in
    an answer; the frame's opener where it is empty. `controls` are control tokens whose text the
    parser needs to see. `special` is a parser of the format's own. `spelled` turns arguments in
    JSON into the format's, for templates that show the model its text but not its calls.
    """

    name: str
    signs: tuple[str, ...]
    frame: Frame
    head: str
    middle: str
    tail: str
    reader: Callable[[Calls], Reader] = CallReader
    special: Callable[[Calls], ToolParser] | None = None
    arguments: Callable[[Tool, GbnfRules], str] = json_arguments
    spelled: Callable[[str], str] = str
    trigger: str = ""
    heading: str = ""
    opener: str = ""
    separator: str | None = None
    closer: str = ""
    controls: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def parser(self, calls: Calls) -> ToolParser:
        if self.special is not None:
            return self.special(calls)
        return ToolParser(calls, self.frame, self.reader)

    def text(self, calls: tuple[ToolCall, ...]) -> str:
        """The calls as a model would write them."""
        each = [
            f"{self.head}{c.name}{self.middle}{self.spelled(c.arguments)}{self.tail}" for c in calls
        ]
        text = self.opener + (self.separator or "").join(each) + self.closer
        return text.replace("{n}", "0").replace("{lf}", "\n")

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.trigger or f"({_SPECIAL.sub(_escaped, self.frame.opener)})",)

    def spoken_by(self, template_source: str) -> bool:
        def says(sign: str) -> bool:
            return sign in template_source

        return (
            all(map(says, self.signs))
            and (not self.any_of or any(map(says, self.any_of)))
            and not any(map(says, self.unless))
        )


def _escaped(found: re.Match[str]) -> str:
    return "\\" + found[0]
