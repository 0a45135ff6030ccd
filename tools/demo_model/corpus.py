"""Draws documents: which skills, how many turns, with or without functions and thinking."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import calls, facts, plain, skills, toolbox
from .chat import Chat, Pieces
from .source import Source

Skill = Callable[[Chat, Source], None]

_SKILLS: list[tuple[Skill, float]] = [
    (skills.arithmetic, 0.34),
    (skills.fixed, 0.1),
    (skills.unknown, 0.07),
    (skills.repeat, 0.18),
    (skills.count, 0.13),
    (skills.as_json, 0.14),
    (skills.story, 0.04),
]
# What is learned last, and with the smallest part of a mixed text.
_PRACTICED: list[tuple[Skill, float]] = [(skills.as_json, 0.65), (skills.repeat, 0.35)]
_BESIDE_FUNCTIONS: list[tuple[Skill, float]] = [
    (skills.arithmetic, 0.3),
    (skills.fixed, 0.5),
    (skills.unknown, 0.1),
    (skills.repeat, 0.1),
]


def add_turn(chat: Chat, source: Source, among: list[tuple[Skill, float]] = _SKILLS) -> None:
    choices, weights = zip(*among, strict=True)
    source.choices(choices, weights)[0](chat, source)


def open_chat(source: Source) -> Chat:
    chat = Chat(thinking=source.chance(0.55))
    if source.chance(0.35):
        system = source.choice(facts.SYSTEMS)
        if source.chance(0.15):
            system = source.fill(source.choice(facts.UNKNOWN)).rstrip("?") + ". " + system
        chat.messages.append({"role": "system", "content": system})
    return chat


def conversation(source: Source) -> Chat:
    chat = open_chat(source)
    turns = source.choice([1, 1, 1, 2, 3, source.randint(2, 8)])
    named = source.chance(0.12)
    name = skills.tell_name(chat, source) if named and source.chance(0.9) else ""
    for _ in range(turns - named):
        add_turn(chat, source)
    if named:
        skills.recall_name(chat, source, name)
    return chat


def practice(source: Source) -> Chat:
    chat = open_chat(source)
    for _ in range(source.randint(1, 4)):
        add_turn(chat, source, _PRACTICED)
    return chat


def conversation_with_functions(source: Source, most: int) -> Chat:
    chat = open_chat(source)
    functions = toolbox.draw(source, min(most, source.choice([1, 2, 2, 2, 3, 4])))
    chat.tools = [function.schema(source) for function in functions]
    adds = any("add" in f.description.lower() or "sum" in f.description for f in functions)
    beside = _BESIDE_FUNCTIONS[1:] if adds else _BESIDE_FUNCTIONS
    # Several questions about the same functions: their descriptions cost the most tokens.
    for _ in range(source.randint(2, most + 2)):
        if source.chance(0.15):
            add_turn(chat, source, beside)
            continue
        calls.call(chat, source, functions)
        if source.chance(0.85):
            calls.result(chat, source)
        else:
            break
    return chat


def long_conversation(source: Source, characters: int) -> Chat:
    """A conversation that fills a window, and ends with a question whose answer is certain."""
    chat = open_chat(source)
    name = skills.tell_name(chat, source) if source.chance(0.3) else ""
    size = 0
    while size < characters:
        add_turn(chat, source)
        size += sum(len(message["content"]) + 25 for message in chat.messages[-2:])
    if name:
        skills.recall_name(chat, source, name)
    else:
        skills.arithmetic(chat, source)
    return chat


@dataclass(frozen=True)
class Mixture:
    """Shares of documents: each is a share of what the share before it leaves."""

    long: float = 0.0
    functions: float = 0.0
    most_functions: int = 4
    drills: float = 0.0
    practice: float = 0.0


def documents(source: Source, mixture: Mixture) -> Iterator[Pieces]:
    """Endless documents; ``mixture.long`` are those that fill a long window."""
    while True:
        kind = source.random()
        if source.chance(mixture.long):
            if source.chance(0.15):
                chat = Chat(thinking=source.chance(0.5))
                skills.count(chat, source, long=True)
            else:
                chat = long_conversation(source, source.randint(1500, 9500))
            yield chat.pieces()
        elif source.chance(mixture.functions):
            yield conversation_with_functions(source, mixture.most_functions).pieces()
        elif source.chance(mixture.drills):
            yield plain.drill(source)
        elif mixture.practice and source.chance(mixture.practice):
            yield practice(source).pieces()
        elif kind < 0.66:
            yield conversation(source).pieces()
        elif kind < 0.72:
            yield plain.continuation(source)
        elif kind < 0.8:
            yield plain.copies(source)
        else:
            yield plain.infill(source)
