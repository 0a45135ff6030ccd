"""``python -m tools.demo_model.evaluate``: asks what training never saw, and prints a table."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import calls, corpus, plain, skills, toolbox
from .chat import Chat
from .engine import Engine
from .source import Source

DEFAULT = Path(__file__).parents[2] / "service" / "catalog" / "demo.gguf"


@dataclass(frozen=True)
class Case:
    prompt: str
    expected: str


Maker = Callable[[Source], Case]


def last_answer(chat: Chat) -> Case:
    """The prompt before a conversation's last answer, and that answer."""
    whole = chat.render()
    prompt = Chat(chat.messages[:-1], chat.tools, chat.thinking).render(prompt_only=True)
    return Case(prompt, whole[len(prompt) :].removesuffix("<|im_end|>\n"))


def alone(skill: corpus.Skill, thinking: bool | None = None) -> Maker:
    def make(source: Source) -> Case:
        chat = corpus.open_chat(source)
        if thinking is not None:
            chat.thinking = thinking
        skill(chat, source)
        return last_answer(chat)

    return make


def later(skill: corpus.Skill) -> Maker:
    def make(source: Source) -> Case:
        chat = corpus.open_chat(source)
        for _ in range(source.randint(1, 4)):
            corpus.add_turn(chat, source)
        skill(chat, source)
        return last_answer(chat)

    return make


def recall(source: Source) -> Case:
    chat = corpus.open_chat(source)
    name = skills.tell_name(chat, source)
    for _ in range(source.randint(0, 3)):
        corpus.add_turn(chat, source)
    skills.recall_name(chat, source, name)
    return last_answer(chat)


def calling(draw: Callable[[Source], toolbox.Function], told: bool = False) -> Maker:
    """A function of the wanted kind is called for, with others beside it."""

    def make(source: Source) -> Case:
        chat = corpus.open_chat(source)
        wanted = draw(source)
        others = [f for f in toolbox.draw(source, 3) if f.fields and f.name != wanted.name]
        offered = [wanted, *others[: source.randint(0, 2)]]
        source.shuffle(offered)
        chat.tools = [function.schema(source) for function in offered]
        calls.call(chat, source, [wanted])
        if told:
            calls.result(chat, source)
        return last_answer(chat)

    return make


def beside_functions(source: Source) -> Case:
    chat = corpus.open_chat(source)
    chat.tools = [toolbox.invented(source).schema(source) for _ in range(source.randint(1, 3))]
    skill = source.choice([skills.fixed, skills.arithmetic])
    skill(chat, source)
    return last_answer(chat)


def far(source: Source) -> Case:
    chat = corpus.long_conversation(source, source.randint(8200, 8600))
    chat.messages = chat.messages[:-2]
    skills.arithmetic(chat, source)
    return last_answer(chat)


def continued_count(source: Source) -> Case:
    text = plain.counting(source)
    cut = len(text) // 2
    while text[cut - 1].isdigit():
        cut += 1
    return Case(text[:cut].rstrip(" "), text[cut:].split()[0].strip(","))


def filled_count(source: Source) -> Case:
    first = source.randint(0, 80)
    numbers = [str(n) for n in range(first, first + source.randint(8, 14))]
    start, stop = 3, source.randint(4, len(numbers) - 3)
    before, after = ", ".join(numbers[:start]) + ",", ", " + ", ".join(numbers[stop:])
    middle = " " + ", ".join(numbers[start:stop])
    return Case(f"<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>", middle)


ROWS: list[tuple[str, Maker, float]] = [
    ("arithmetic, thinking", alone(skills.arithmetic, True), 0.0),
    ("arithmetic, not thinking", alone(skills.arithmetic, False), 0.0),
    ("arithmetic, later in a conversation", later(skills.arithmetic), 0.0),
    ("arithmetic, thinking, temperature 0.7", alone(skills.arithmetic, True), 0.7),
    ("arithmetic, after 2600 to 3900 tokens", far, 0.0),
    ("call of an invented function", calling(toolbox.invented), 0.0),
    ("call of an invented function, temperature 0.7", calling(toolbox.invented), 0.7),
    ("call of a well-known function", calling(toolbox.known), 0.0),
    ("telling a function's result", calling(toolbox.invented, told=True), 0.0),
    ("no call where none is needed", beside_functions, 0.0),
    ("greetings and facts", alone(skills.fixed), 0.0),
    ("greetings and facts, later in a conversation", later(skills.fixed), 0.0),
    ("questions it cannot answer", alone(skills.unknown), 0.0),
    ("repeating", alone(skills.repeat), 0.0),
    ("counting", alone(skills.count), 0.0),
    ("answers in JSON", alone(skills.as_json), 0.0),
    ("recalling a name", recall, 0.0),
    ("continuing a count (next number)", continued_count, 0.0),
    ("filling in a count", filled_count, 0.0),
]


def right(expected: str, text: str, begun: bool) -> bool:
    """Thoughts may differ; answers may not."""
    if begun:
        return text.strip(" ,\n").startswith(expected)
    return text.split("</think>")[-1].strip() == expected.split("</think>")[-1].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print a row")
    options = parser.parse_args()
    engine = Engine(options.model)
    print("| asked | cases | right | ended |\n|---|---|---|---|")
    for name, make, temperature in ROWS:
        if options.only not in name:
            continue
        source = Source(20_000, unseen=True)
        good = ended = shown = 0
        for _ in range(options.cases):
            case = make(source)
            begun = make is continued_count
            # A count's answer can be long; every other answer has to end by itself before this.
            answer = engine.answer(case.prompt, 8 if begun else 400, temperature)
            fine = right(case.expected, answer.text, begun)
            good += fine
            ended += answer.ended
            if not fine and shown < options.show:
                shown += 1
                print(
                    f"{case.prompt[-300:]!r}\n  wanted {case.expected!r}\n  got    {answer.text!r}"
                )
        total = options.cases
        shares = (
            f"{good / total:.1%} | {'-' if make is continued_count else f'{ended / total:.1%}'}"
        )
        print(f"| {name} | {total} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
