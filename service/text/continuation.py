"""A message that the client began: the prompt ends where it does, and the answer goes on from there.

The model's template writes what stands before the message's text, and the text follows exactly as
it is, whatever the template would have trimmed from it. Thoughts that were begun come after the
prompt that an answer of its own would have.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from service.errors import InvalidRequest
from service.generation import Message
from service.text.reasoning import ReasoningFormat

# Stands for the text while the template is rendered: no template takes it for anything, and no
# text has it, for U+FDD0 is no character.
MARK: Final = "\ufdd0to be continued\ufdd0"


class Begun(NamedTuple):
    """`inside`: the message ends within thoughts. `answer`: what it has of the answer, None where
    that is still to begin. `raw`: what follows the prompt of an answer; None where the template
    writes the message itself."""

    inside: bool
    answer: str | None
    raw: str | None = None


def begun(message: Message, form: ReasoningFormat) -> Begun:
    """Raises InvalidRequest for a message that cannot be gone on with."""
    if message.tool_calls or message.role == "tool":
        raise InvalidRequest(
            "A message with tool calls, or with a tool's answer, cannot be gone on with.",
            param="messages",
        )
    content = message.content or ""
    if not form.thinks:
        return Begun(False, content)
    if not content and message.reasoning:
        return Begun(True, None, form.opener + message.reasoning)
    if content.lstrip().startswith(form.opener):
        _, closer, answer = content.partition(form.closer)
        return Begun(not closer, answer if closer else None, content.lstrip())
    return Begun(False, content)


def cut_at_mark(prompt: str) -> str:
    before, mark, _ = prompt.rpartition(MARK)
    if not mark:
        raise InvalidRequest(
            "The model's chat template does not show the message that is to be gone on with.",
            param="messages",
        )
    return before


def joined(prompt: str, raw: str, form: ReasoningFormat) -> str:
    """Thoughts that were begun, after a prompt that may have opened them itself, or closed them."""
    if prompt.rstrip().endswith(form.closer):
        prompt = prompt.rstrip().removesuffix(form.closer).rstrip().removesuffix(form.opener)
    if form.opened_by(prompt):
        raw = raw.removeprefix(form.opener)
        # The prompt's own line break after the mark, and the text's, are the same one.
        raw = raw[1:] if prompt.endswith("\n") and raw.startswith("\n") else raw
    # What stands between the head of a message and the mark, where anything does.
    gap = form.resume.removeprefix(form.resume.rstrip())
    return prompt + gap + raw
