"""A request's prompt as the engine gets it, and the readers of what comes back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.errors import InvalidRequest
from service.facts import ModelFacts
from service.generation import (
    Chat,
    GenerationRequest,
    Grammar,
    Infill,
    Message,
    Role,
    SamplingParams,
    Text,
    Thoughts,
    Tokens,
)
from service.text.continuation import Begun, begun
from service.text.grammar import grammar_of
from service.text.interpreter import Interpreter
from service.text.reasoning import ReasoningFormat
from service.text.template import ChatTemplate

# A Modelfile comes from a stranger: what is no role is passed over.
ROLES: Final[dict[str, Role]] = {role: role for role in get_args(Role)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """`interpreters` has one for each answer."""

    prompt: Text | Tokens
    sampling: SamplingParams
    grammar: Grammar | None
    interpreters: list[Interpreter]


def prepare_raw(request: GenerationRequest, prompt: Text | Tokens) -> Prepared:
    """The client wrote the prompt itself: what it gets back is text, and nothing is read in it."""
    grammar = grammar_of(request.response_format)
    interpreters = [Interpreter(index) for index in range(request.n)]
    return Prepared(prompt, request.sampling, grammar, interpreters)


def prepare_chat(
    request: GenerationRequest, chat: Chat, template: ChatTemplate, bos: str
) -> Prepared:
    text = rendered(chat, template, bos)
    prompt = text.prompt
    form = template.reasoning
    start = Begun(form.opened_by(prompt), None)
    if chat.continue_final_message:
        start = begun(chat.messages[-1], form)
    tools = template.tool_format if chat.tools and chat.tool_choice.mode != "none" else None
    grammar = grammar_of(
        request.response_format,
        chat,
        tools=tools,
        form=form,
        inside=start.inside,
        begun=start.answer,
    )
    sampling = replace(request.sampling, thoughts=_limited(request.sampling.thoughts, form, start))
    if form.controls or (tools and tools.controls):
        # The marks of thoughts and calls are control tokens here: unseen, they mark nothing.
        sampling = replace(sampling, skip_special_tokens=False)
    interpreters = [
        Interpreter(
            index,
            form,
            start.inside,
            tools,
            chat.tools,
            begun=start.answer is not None,
            stream_arguments=request.stream,
            parallel=chat.parallel_tool_calls,
        )
        for index in range(request.n)
    ]
    return Prepared(text, sampling, grammar, interpreters)


def _limited(thoughts: Thoughts | None, form: ReasoningFormat, start: Begun) -> Thoughts | None:
    """With the model's marks; None where it has none, or its thoughts are behind it."""
    if thoughts is None or not form.thinks or start.answer is not None:
        return None
    return Thoughts(thoughts.budget, form.opener, form.closer, start.inside)


def rendered(chat: Chat, template: ChatTemplate, bos: str) -> Text:
    prompt = template.render(chat)
    # A template that writes BOS itself must not get a second one from the tokenizer.
    begun = bool(bos) and prompt.startswith(bos)
    return Text(prompt, add_special_tokens=not begun)


def infilling(infill: Infill, facts: ModelFacts) -> Text:
    """In the order that nearly all such models were trained on: prefix, suffix, middle."""
    if facts.infill is None:
        raise InvalidRequest("This model cannot fill in text.", param="suffix")
    prefix, suffix, middle = facts.infill
    return Text(f"{prefix}{infill.prefix}{suffix}{infill.suffix}{middle}")


def introduced(chat: Chat, card: ModelCard) -> Chat:
    """With what the model's Modelfile has said before anybody asks: its SYSTEM where the request
    does not begin with a system message, then its MESSAGEs, then the request's own."""
    if chat.introduced or not (card.system or card.messages):
        return chat
    told = any(message.role == "system" for message in chat.messages[:1])
    opening, rest = chat.messages[:told], chat.messages[told:]
    if not told and card.system:
        opening = (Message("system", card.system),)
    said = (Message(ROLES[m.role], m.content) for m in card.messages if m.role in ROLES)
    return replace(chat, messages=(*opening, *said, *rest), introduced=True)
