"""Tools and the choice between them, in each form that OpenAI's API has had → Tool, ToolChoice. Pure."""

from __future__ import annotations

import re
from typing import Final

from service.dialects.fields import Fields
from service.generation import Tool, ToolChoice

MAX_TOOLS: Final = 128

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def parse_tools(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice]:
    """An empty list of tools is no list, as most clients mean it."""
    fields.list("tools", longest=MAX_TOOLS)
    fields.list("functions", longest=MAX_TOOLS)
    tools = tuple(parse_tool(tool) for tool in fields.objects("tools"))
    legacy = tuple(parse_function(function) for function in fields.objects("functions"))
    if tools:
        return choose(fields, "tool_choice", tools)
    return choose(fields, "function_call" if legacy else "tool_choice", legacy)


def parse_tool(fields: Fields) -> Tool:
    if fields.text("type") not in ("function", None):
        raise fields.bad("type", "only tools of type function are supported")
    function = fields.object("function")
    if function is None:
        raise fields.bad("function", "is missing")
    return parse_function(function)


def parse_function(fields: Fields) -> Tool:
    name = fields.text("name")
    if name is None or not _TOOL_NAME.fullmatch(name):
        raise fields.bad("name", "must be 1 to 64 letters, digits, dashes and underscores")
    parameters = fields.object("parameters")
    return Tool(
        name,
        fields.text("description", longest=65536) or "",
        None if parameters is None else parameters.values,
        fields.flag("strict"),
    )


def choose(
    fields: Fields, key: str, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], ToolChoice]:
    given = fields.get(key)
    names = {tool.name for tool in tools}
    if not tools:
        if given is None or given in ("none", "auto"):
            return (), ToolChoice("none")
        raise fields.bad(key, "needs tools to choose from")
    match given:
        case None | "auto":
            return tools, ToolChoice("auto")
        case "none":
            return tools, ToolChoice("none")
        case "required" | "any":
            return tools, ToolChoice("required")
        case {"type": "function", "function": {"name": str(name)}} | {"name": str(name)}:
            if name not in names:
                raise fields.bad(key, f"there is no tool named {name[:64]}")
            return tools, ToolChoice("named", (name,))
        case {"type": "allowed_tools"}:
            return allowed_tools(fields, key, tools)
    raise fields.bad(key, "must be none, auto, required, or name a function")


def allowed_tools(
    fields: Fields, key: str, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], ToolChoice]:
    choice = fields.object(key)
    assert choice is not None
    choice.skip(("type",))
    # The object is nested in the API's reference and flat in some clients.
    allowed = choice.object("allowed_tools") or choice
    mode = allowed.choice("mode", ("auto", "required"))
    wanted = []
    for entry in allowed.objects("tools"):
        name = (entry.object("function") or entry).text("name")
        if name not in {tool.name for tool in tools}:
            raise entry.bad("name", "is not one of the tools")
        wanted.append(name)
    kept = tuple(tool for tool in tools if tool.name in wanted)
    if not kept:
        raise allowed.bad("tools", "must name at least one tool")
    return kept, ToolChoice("required" if mode == "required" else "auto")
