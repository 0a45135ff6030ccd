"""Syntaxes whose parameters stand between tags: see `tagged_reader`."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from service.text.calls import Calls, Reader
from service.text.tagged_reader import TaggedReader, Tags
from service.text.tool_format import ToolFormat
from service.text.tool_grammar import tagged_arguments
from service.text.tool_parser import Frame


def _in(tags: Tags) -> Callable[[Calls], Reader]:
    return lambda calls: TaggedReader(calls, tags)


_FUNCTION = Tags(
    "<parameter=", ">", "</parameter>", "</function>", ">", around="\n", until="</tool_call>"
)
# Qwen3.5, Nemotron 3 and Step 3.5 too. They forget `<tool_call>` now and then.
QWEN_CODER = ToolFormat(
    "qwen-coder",
    signs=("<tool_call>", "<function=", "<parameter="),
    frame=Frame("<tool_call>", "<function=", "</tool_call>", also=("<function=",)),
    reader=_in(_FUNCTION),
    head="<tool_call>\n<function=",
    middle=">\n",
    arguments=tagged_arguments(_FUNCTION, gap="\n"),
    tail="</function>\n</tool_call>",
    separator="\n",
    trigger="(<tool_call>|<function=)",
)
_SEED = replace(_FUNCTION, around="", until="</seed:tool_call>")
SEED = ToolFormat(
    "seed",
    signs=("<seed:tool_call>", "<function="),
    frame=Frame("<seed:tool_call>", "<function=", "</seed:tool_call>"),
    reader=_in(_SEED),
    head="<seed:tool_call>\n<function=",
    middle=">\n",
    arguments=tagged_arguments(_SEED, gap="\n"),
    tail="</function>\n</seed:tool_call>",
    separator="\n",
    controls=("<seed:tool_call>", "</seed:tool_call>"),
)
_ARG = Tags("<arg_key>", "</arg_key>", "</arg_value>", "</tool_call>", value="<arg_value>")
# GLM-4.5 and 4.6 with a tag on each line, GLM-4.7 and many after it without line breaks.
GLM = ToolFormat(
    "glm",
    signs=("<arg_key>", "<arg_value>", "<tool_call>"),
    frame=Frame("<tool_call>"),
    reader=_in(_ARG),
    head="<tool_call>",
    middle="{lf}",
    arguments=tagged_arguments(_ARG, gap="{lf}", key_gap="{lf}"),
    tail="</tool_call>",
    separator="{lf}",
    controls=("<tool_call>", "</tool_call>", "<arg_key>", "<arg_value>"),
)
_HY = Tags(
    "<arg_key:opensource>",
    "</arg_key:opensource>",
    "</arg_value:opensource>",
    "</tool_call:opensource>",
    value="<arg_value:opensource>",
    skip="<tool_sep:opensource>",
)
HUNYUAN = ToolFormat(
    "hunyuan",
    signs=("<tool_sep{}>", "':opensource'"),
    frame=Frame("<tool_calls:opensource>", "<tool_call:opensource>", "</tool_calls:opensource>"),
    reader=_in(_HY),
    opener="<tool_calls:opensource>\n",
    head="<tool_call:opensource>",
    middle="<tool_sep:opensource>\n",
    arguments=tagged_arguments(_HY, gap="\n", key_gap="\n"),
    tail="</tool_call:opensource>\n",
    separator="",
    closer="</tool_calls:opensource>",
    controls=("<tool_calls:opensource>",),
)


def _invoke(
    name: str, signs: tuple[str, ...], prefix: str, section: str, *, typed: str = ""
) -> ToolFormat:
    """`<invoke name="f">` and `<parameter name="a">`, with `prefix` before these words."""
    tags = Tags(
        f'<{prefix}parameter name="',
        ">" if typed else '">',
        f"</{prefix}parameter>",
        f"</{prefix}invoke>",
        ">" if typed else '">',
        until=f"</{section}>",
    )
    return ToolFormat(
        name,
        signs=signs,
        frame=Frame(f"<{section}>", f'<{prefix}invoke name="', f"</{section}>"),
        reader=_in(tags),
        opener=f"<{section}>\n",
        head=f'<{prefix}invoke name="',
        middle='">\n',
        arguments=tagged_arguments(tags, gap="\n", typed=typed),
        tail=f"</{prefix}invoke>\n",
        separator="",
        closer=f"</{section}>",
        controls=(f"<{section}>",),
    )


MINIMAX_M2 = _invoke("minimax-m2", ("<minimax:tool_call>",), "", "minimax:tool_call")
# Each call is a message of its own, whose header says to whom it goes: see `harmony`.
MUSE = replace(
    _invoke("muse", ("<atem:function_calls>",), "atem:", "atem:function_calls"),
    heading="to={name}<|message|>",
    separator=None,
    controls=(),
)
_TYPED = '" string="{text}">'
DEEPSEEK_V32 = _invoke(
    "deepseek-v3.2",
    ("｜DSML｜", "function_calls>"),
    "｜DSML｜",
    "｜DSML｜function_calls",
    typed=_TYPED,
)
DEEPSEEK_V4 = _invoke("deepseek-v4", ("｜DSML｜",), "｜DSML｜", "｜DSML｜tool_calls", typed=_TYPED)
_PARAM = Tags('<param name="', '">', "</param>", "</function>", '">', cdata=True)
MINICPM = ToolFormat(
    "minicpm",
    signs=('<function name="', '<param name="'),
    frame=Frame('<function name="'),
    reader=_in(_PARAM),
    head='<function name="',
    middle='">',
    arguments=tagged_arguments(_PARAM),
    tail="</function>",
    separator="\n",
)
_SEP = "<|sep|>"
_ARGUMENT = Tags(
    '<|open|>argument key="',
    _SEP,
    f"<|close|>argument{_SEP}",
    f"<|close|>call{_SEP}",
    _SEP,
)
KIMI_K3 = ToolFormat(
    "kimi-k3",
    signs=("<|open|>", "<|close|>", _SEP),
    frame=Frame(f"<|open|>tools{_SEP}", '<|open|>call tool="', f"<|close|>tools{_SEP}"),
    reader=_in(_ARGUMENT),
    opener=f"<|open|>tools{_SEP}",
    head='<|open|>call tool="',
    middle=f'" index="{{n}}"{_SEP}',
    arguments=tagged_arguments(_ARGUMENT, typed=f'" type="{{type}}"{_SEP}'),
    tail=f"<|close|>call{_SEP}",
    separator="",
    closer=f"<|close|>tools{_SEP}",
    controls=("<|open|>", "<|close|>", _SEP),
)
TAGGED = (
    HUNYUAN, GLM, SEED, QWEN_CODER, MINIMAX_M2, MUSE, DEEPSEEK_V32, DEEPSEEK_V4, MINICPM, KIMI_K3,
)  # fmt: skip
