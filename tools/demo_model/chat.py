"""Renders conversations with the model's own template and marks what is to be learned."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"

Message = dict[str, Any]
# A document is a list of (text, weight); the weight says how much its tokens count in the loss.
Pieces = list[tuple[str, float]]

# What people write has to be read, not predicted: a little weight keeps its tokens' embeddings
# trained and lets raw ChatML be continued.
HEARD = 0.1


def _tojson(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
_environment.filters["tojson"] = _tojson
_template = _environment.from_string(TEMPLATE)
_ANSWER = re.compile(
    r"(<\|im_start\|>assistant\n(?:<think>\n\n</think>\n\n)?)(.*?<\|im_end\|>)", re.DOTALL
)


@dataclass
class Chat:
    """A conversation, and whether it is held with thinking on."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    thinking: bool = True

    def ask(self, content: str) -> None:
        self.messages.append({"role": "user", "content": content})

    def answer(self, content: str, thought: str = "", calls: list[Any] | None = None) -> None:
        message: Message = {"role": "assistant", "content": content}
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = calls
        self.messages.append(message)

    def render(self, prompt_only: bool = False) -> str:
        return _template.render(
            messages=self.messages,
            tools=self.tools,
            add_generation_prompt=prompt_only,
            enable_thinking=self.thinking,
        )

    def pieces(self) -> Pieces:
        """Split the rendering where inference splits it: at the end of each prompt.

        A past answer that was thought about is shown without its thought, which is not how it
        was generated, so it must not be learned; nor may the prefilled empty thought.
        """
        text = self.render()
        last_user = max(i for i, m in enumerate(self.messages) if m["role"] == "user")
        spoken = [
            not (self.thinking and m.get("reasoning_content") and i < last_user)
            for i, m in enumerate(self.messages)
            if m["role"] == "assistant"
        ]
        pieces: Pieces = []
        end = 0
        for match, learned in zip(_ANSWER.finditer(text), spoken, strict=True):
            pieces.append((text[end : match.start()], HEARD))
            pieces.append((match.group(1), 0.0))
            pieces.append((match.group(2), 1.0 if learned else 0.0))
            end = match.end()
        pieces.append((text[end:], HEARD))
        return pieces
