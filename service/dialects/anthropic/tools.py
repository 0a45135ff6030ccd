"""Tools and the choice between them, as Anthropic's clients write them → Tool, ToolChoice. Pure."""

from __future__ import annotations

import re
from typing import Final

from service.dialects.fields import Fields
from service.dialects.openai.tools import MAX_TOOLS
from service.generation import Tool, ToolChoice

CHOICES: Final = ("auto", "any", "tool", "none")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def parse_tools(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice, bool]:
    """The tools, the choice, and whether several may be called at once."""
    fields.list("tools", longest=MAX_TOOLS)
    tools = tuple(parse_tool(tool) for tool in fields.objects("tools"))
    choice = fields.object("tool_choice")
    if choice is None:
        return tools, ToolChoice("auto" if tools else "none"), True
    mode = choice.choice("type", CHOICES)
    if mode is None:
        raise choice.bad("type", "is missing")
    parallel = not choice.flag("disable_parallel_tool_use")
    name = choice.text("name", longest=128)
    if not tools:
        if mode in ("any", "tool"):
            raise fields.bad("tool_choice", "needs tools to choose from")
        return (), ToolChoice("none"), parallel
    if mode == "any":
        return tools, ToolChoice("required"), parallel
    if mode == "tool":
        if name not in {tool.name for tool in tools}:
            raise choice.bad("name", "must be the name of one of the tools")
        return tools, ToolChoice("named", (name or "",)), parallel
    return tools, ToolChoice("none" if mode == "none" else "auto"), parallel


def parse_tool(fields: Fields) -> Tool:
    word = fields.text("type", longest=64)
    if word not in (None, "custom"):
        raise fields.bad("type", f"{word}: only tools that the client runs are supported")
    name = fields.text("name")
    if name is None or not _NAME.fullmatch(name):
        raise fields.bad("name", "must be 1 to 128 letters, digits, dashes and underscores")
    schema = fields.object("input_schema")
    if schema is None:
        raise fields.bad("input_schema", "is missing")
    return Tool(
        name,
        fields.text("description", longest=65536) or "",
        schema.values,
        fields.flag("strict"),
    )
