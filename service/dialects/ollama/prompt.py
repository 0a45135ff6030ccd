"""The prompt of /api/generate: a chat of one turn, text as it stands, or a gap to fill. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from service.dialects.fields import Fields
from service.dialects.ollama.messages import refuse_images
from service.dialects.ollama.template import render
from service.dialects.ollama.thinking import Thinking
from service.dialects.openai.completions_request import ids
from service.errors import InvalidRequest
from service.generation import Chat, Infill, Message, Text, ToolChoice


@dataclass(frozen=True)
class Prompt:
    """`context`: tokens of an earlier answer, to go on from. `template`: used in place of the
    model's own, in Go's notation."""

    text: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: tuple[int, ...] = ()
    raw: bool = False

    @property
    def fills(self) -> bool:
        """Whether the model's own way of filling gaps is wanted."""
        return bool(self.suffix) and not self.raw and not self.template

    @property
    def unused(self) -> dict[str, bool]:
        """What is given beside a gap to fill, or raw text, and has no place there."""
        return {
            "system": self.fills and bool(self.system),
            "context": self.fills and bool(self.context),
            "suffix": self.raw and bool(self.suffix),
        }

    def input(self, thinking: Thinking, own_system: str = "") -> Chat | Text | Infill:
        """`own_system`: the model's, where the request has none. What else the model begins
        conversations with is put before the chat by whoever renders it, unless this one goes on
        from an earlier one."""
        if self.raw:
            return Text(self.text)
        system = self.system or own_system
        if self.template:
            values = {"System": system, "Prompt": self.text, "Suffix": self.suffix}
            return Text(render(self.template, values))
        if self.fills:
            return Infill(self.text, self.suffix)
        messages = [Message("system", system)] if system else []
        return Chat(
            (*messages, Message("user", self.text)),
            tool_choice=ToolChoice("none"),
            enable_thinking=thinking.enable,
            reasoning_effort=thinking.effort,
            introduced=bool(self.context),
        )


def parse_prompt(fields: Fields) -> Prompt:
    refuse_images(fields)
    prompt = Prompt(
        text=fields.text("prompt") or "",
        suffix=fields.text("suffix") or "",
        system=fields.text("system") or "",
        template=fields.text("template") or "",
        context=ids(fields, "context", fields.list("context") or []),
        raw=fields.flag("raw"),
    )
    if prompt.raw and (prompt.template or prompt.system or prompt.context):
        message = "raw mode does not support template, system, or context"
        raise InvalidRequest(message, param="raw")
    return prompt
