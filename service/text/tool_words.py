"""Tools in the words of the system message, for templates that show calls and never the tools.

DeepSeek-V3.1's is one: its model card ("ToolCall") says what stands after the system prompt and an
empty line, and that is what the model was trained to read.
"""

from __future__ import annotations

import json
from typing import Any, Final

_CALL: Final = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments"
    "<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>"
)
_HEAD: Final = "## Tools\nYou have access to the following tools:\n\n"
_RULES: Final = f"""\
IMPORTANT: ALWAYS adhere to this exact format for tool use:
{_CALL}

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces"""


def needs_words(template_source: str) -> bool:
    """It has V3.1's calls, which unlike V3's and R1's stand in no fence, and no word for tools."""
    calls = "<｜tool▁calls▁begin｜>" in template_source
    return calls and "```" not in template_source and "tools" not in template_source


def in_words(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the tools at the end of the system message, or of one in front."""
    told = _HEAD + "".join(map(_told, tools)) + _RULES
    if messages and messages[0]["role"] == "system":
        system, *rest = messages
        return [{**system, "content": f"{system['content']}\n\n{told}"}, *rest]
    return [{"role": "system", "content": told}, *messages]


def _told(tool: dict[str, Any]) -> str:
    function = tool["function"]
    parameters = json.dumps(function["parameters"], ensure_ascii=False)
    name, description = function["name"], function["description"]
    return f"### {name}\nDescription: {description}\n\nParameters: {parameters}\n\n"
