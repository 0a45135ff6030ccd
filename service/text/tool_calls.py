"""Which syntax a model writes tool calls in, as one table; each row has a parser of its own.

A further syntax is a file with a `ToolParser` and a row in `FORMATS`.
"""

from __future__ import annotations

from msgspec import Struct

from service.text.harmony import CALL_MIDDLE, CALL_OPENER
from service.text.tool_harmony import ToolHarmonyParser
from service.text.tool_hermes import HermesParser
from service.text.tool_llama import LlamaParser
from service.text.tool_mistral import MistralParser
from service.text.tool_parser import ToolParser


class ToolFormat(Struct, frozen=True):
    """One syntax, told both ways: `parser` reads it, the rest writes it, for grammars.

    A call is `head`, the tool's name, `middle`, the arguments as a JSON object, `tail`; all the
    calls of an answer are `opener`, calls with `separator` between them (None: there can be only
    one), `closer`. Chat templates of such models contain all `signs` and nothing of `unless`.
    `trigger` is a regular expression (ECMAScript) whose first group matches where calls begin in
    an answer. `controls` are control tokens whose text the parser needs to see.
    """

    name: str
    signs: tuple[str, ...]
    parser: type[ToolParser]
    head: str
    middle: str
    tail: str
    trigger: str
    opener: str = ""
    separator: str | None = None
    closer: str = ""
    controls: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def spoken_by(self, template_source: str) -> bool:
        return all(sign in template_source for sign in self.signs) and not any(
            sign in template_source for sign in self.unless
        )


# Signs of syntaxes that wrap their arguments in XML, and have no parser here yet.
_XML = ("<function=", "<arg_key>", "<parameter=", "<invoke name=")

HERMES = ToolFormat(
    "hermes",
    signs=("<tool_call>", "arguments"),
    unless=_XML,
    parser=HermesParser,
    head='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    tail="}\n</tool_call>",
    separator="\n",
    trigger=r"(<tool_call>)",
)
LLAMA = ToolFormat(
    "llama",
    signs=("<|start_header_id|>", "parameters"),
    unless=(*_XML, "functools[", ">>>"),
    parser=LlamaParser,
    head='{"name": "',
    middle='", "parameters": ',
    tail="}",
    trigger=r'^\s*(?:<\|python_tag\|>)?(\{\s*"name"\s*:)',
    controls=("<|python_tag|>",),
)
MISTRAL = ToolFormat(
    "mistral",
    signs=("[TOOL_CALLS]",),
    parser=MistralParser,
    opener="[TOOL_CALLS][",
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    separator=", ",
    closer="]",
    trigger=r"(\[TOOL_CALLS\])",
    controls=("[TOOL_CALLS]",),
)
MISTRAL_NAMED = ToolFormat(
    "mistral-named",
    signs=("[TOOL_CALLS]", "[ARGS]"),
    parser=MistralParser,
    head="[TOOL_CALLS]",
    middle="[ARGS]",
    tail="",
    separator="",
    trigger=r"(\[TOOL_CALLS\])",
    controls=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
)
HARMONY = ToolFormat(
    "harmony",
    signs=("<|channel|>", "<|constrain|>"),
    parser=ToolHarmonyParser,
    head=CALL_OPENER + "functions.",
    middle=CALL_MIDDLE,
    tail="",  # its end is the end token <|call|>, which no grammar can ask for
    trigger=r"(<\|channel\|>commentary to=)",
    controls=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|call|>"),
)
# The first that fits counts, so the more particular ones come first.
FORMATS = (HARMONY, MISTRAL_NAMED, MISTRAL, HERMES, LLAMA)


def tool_format(template_source: str) -> ToolFormat | None:
    """The syntax of a model with this chat template; None if it shows the model no tools."""
    if "tools" not in template_source:
        return None
    for known in FORMATS:
        if known.spoken_by(template_source):
            return known
    return None
