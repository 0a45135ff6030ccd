"""What the model can do in a conversation without functions: each skill adds a turn to a chat."""

import json

from . import facts
from .chat import Chat
from .source import Source

_SUMS = {
    "+": [
        "What is {a} + {b}?", "{a}+{b}", "{a} + {b}", "{a} + {b} = ?", "{a}+{b}=", "{a}+{b}=?",
        "What is {a} plus {b}?", "{a} plus {b}", "Compute {a} + {b}.", "Calculate {a} + {b}",
        "Add {a} and {b}.", "What is the sum of {a} and {b}?", "How much is {a} + {b}?",
        "what is {a} + {b}", "what's {a}+{b}?", "What's {a} + {b}?", "Please add {a} and {b}.",
        "Can you compute {a} + {b}?", "Tell me what {a} plus {b} is.", "And {a} + {b}?",
        "What does {a} + {b} equal?", "Solve {a} + {b}.", "How much is {a} and {b}?",
        "What is {a}+{b}?", "{a} + {b}?", "Think: what is {a} + {b}?", "Add {b} to {a}.",
        "I have {a} coins and get {b} more. How many coins do I have?", "Sum {a} and {b}",
        "What is {a} + {b}? Answer briefly.", "Quick: {a} + {b}", "Evaluate {a} + {b}.",
    ],
    "-": [
        "What is {a} - {b}?", "{a}-{b}", "{a} - {b}", "{a} - {b} = ?", "{a}-{b}=", "{a}-{b}=?",
        "What is {a} minus {b}?", "{a} minus {b}", "Compute {a} - {b}.", "Calculate {a} - {b}",
        "Subtract {b} from {a}.", "How much is {a} - {b}?", "How much is {a} minus {b}?",
        "what is {a} - {b}", "what's {a}-{b}?", "What's {a} - {b}?", "Take {b} from {a}.",
        "Can you compute {a} - {b}?", "Tell me what {a} minus {b} is.", "And {a} - {b}?",
        "What does {a} - {b} equal?", "Solve {a} - {b}.", "Please compute {a} - {b}.",
        "What is {a}-{b}?", "{a} - {b}?", "Think: what is {a} - {b}?", "Take {b} away from {a}.",
        "I have {a} coins and give away {b}. How many coins do I have?", "Evaluate {a} - {b}.",
        "What is {a} - {b}? Answer briefly.", "Quick: {a} - {b}", "Please subtract {b} from {a}.",
    ],
}  # fmt: skip


def result(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b


def thought(a: int, sign: str, b: int) -> str:
    """The work on paper, digit by digit from the right."""
    start = f"{a} {sign} {b}: "
    if sign == "-" and a < b:
        return f"{start}{b} is more, so minus {thought(b, sign, a)}"
    if a < 10 and b < 10:
        return f"{start}{a} {sign} {b} = {result(a, sign, b)}."
    (a10, a1), (b10, b1) = divmod(a, 10), divmod(b, 10)
    if sign == "+":
        ones = f"{a1} + {b1} = {a1 + b1}, write {(a1 + b1) % 10}"
        if a1 + b1 >= 10:
            return f"{start}{ones} carry 1. {a10} + {b10} + 1 = {a10 + b10 + 1}."
        return f"{start}{ones}. {a10} + {b10} = {a10 + b10}."
    if a1 < b1:
        ones = f"{a1 + 10} - {b1} = {a1 + 10 - b1}, borrow 1"
        return f"{start}{ones}. {a10} - 1 - {b10} = {a10 - 1 - b10}."
    return f"{start}{a1} - {b1} = {a1 - b1}. {a10} - {b10} = {a10 - b10}."


def arithmetic(chat: Chat, source: Source) -> None:
    sign = source.choice("+-")
    a, b = source.operands(sign)
    chat.ask(source.choice(_SUMS[sign]).format(a=a, b=b))
    work = thought(a, sign, b) if chat.thinking else ""
    chat.answer(f"{a} {sign} {b} = {result(a, sign, b)}.", thought=work)


def fixed(chat: Chat, source: Source) -> None:
    questions, answer = source.choice(facts.FIXED)
    question = source.choice(questions)
    if source.chance(0.1):
        question = question.lower().rstrip(".?!")
    chat.ask(question)
    chat.answer(answer)


def unknown(chat: Chat, source: Source) -> None:
    question = source.fill(source.choice(facts.UNKNOWN))
    if source.chance(0.1):
        question = f"{source.phrase(8).capitalize()}{source.choice('.?')}"
    elif source.chance(0.05):
        question += " " + source.fill(source.choice(facts.UNKNOWN))
    chat.ask(question)
    chat.answer(facts.ABILITIES)


def repeatable(source: Source) -> str:
    parts = []
    for _ in range(source.randint(1, source.choice([2, 6, 12]))):
        kind = source.random()
        if kind < 0.65:
            part = source.word()
            part = part.capitalize() if source.chance(0.1) else part
        elif kind < 0.8:
            part = source.letters()
        elif kind < 0.9:
            part = str(source.number())
        else:
            part = source.code()
        parts.append(part + (source.choice(",.!?;:") if source.chance(0.08) else ""))
    return " ".join(parts)


def repeat(chat: Chat, source: Source) -> None:
    text = repeatable(source)
    pattern = source.choice(
        ["Repeat after me: {}", "Repeat after me: {}", "Repeat: {}", "Say {}", "Say: {}",
         "Echo: {}", "echo {}", 'Say "{}".', 'Repeat "{}".', "Repeat this: {}",
         "Say exactly: {}", "Please repeat: {}", 'Repeat the text "{}".', "Write: {}",
         "Repeat the following text:\n{}", "Reply with: {}"]
    )  # fmt: skip
    chat.ask(pattern.format(text))
    chat.answer(text)


def count(chat: Chat, source: Source, long: bool = False) -> None:
    first = source.choice([0, 1, 1, 1, source.randint(0, 150)])
    last = first + source.randint(1, 200 if long else source.choice([6, 12, 25, 60]))
    numbers = [str(n) for n in range(first, last + 1)]
    pattern = source.choice(
        ["Count from {a} to {b}.", "Count from {a} to {b}", "count from {a} to {b}",
         "Please count from {a} to {b}.", "Count to {b}, starting at {a}.",
         "Can you count from {a} to {b}?", "List the numbers from {a} to {b}."]
    )  # fmt: skip
    if first == 1 and source.chance(0.5):
        pattern = source.choice(["Count to {b}.", "Count to {b}", "Please count to {b}."])
    elif last < 100 and source.chance(0.15):
        first, last = last, first
        numbers.reverse()
        pattern = source.choice(["Count down from {a} to {b}.", "Count backwards from {a} to {b}."])
    chat.ask(pattern.format(a=first, b=last))
    chat.answer(", ".join(numbers))


def as_json(chat: Chat, source: Source) -> None:
    """Answers in JSON come without a thought, so that a grammar can be laid over them."""
    ask = source.choice(["Answer in JSON: {}", "{} Answer in JSON.", "{} Reply as JSON.",
                         "{} Answer as a JSON object.", "As JSON: {}"])  # fmt: skip
    if source.chance(0.5):
        sign = source.choice("+-")
        a, b = source.operands(sign)
        chat.ask(ask.format(f"What is {a} {sign} {b}?"))
        chat.answer(json.dumps({"answer": result(a, sign, b)}))
        return
    fields: dict[str, object] = {
        "name": source.name(), "age": source.randint(1, 99), "city": source.city(),
        "color": source.choice(["red", "green", "blue", "black", "white", "yellow"]),
        "count": source.number(), "item": source.word(), "id": source.code(),
    }  # fmt: skip
    keys = source.sample(list(fields), source.randint(1, 4))
    fields = {key: fields[key] for key in keys}
    said = ", ".join(f"{key} {value}" for key, value in fields.items())
    chat.ask(ask.format(f"The {said}."))
    chat.answer(json.dumps(fields, ensure_ascii=False))


def tell_name(chat: Chat, source: Source) -> str:
    name = source.name()
    pattern = source.choice(
        ["My name is {}.", "I am {}.", "Hello, my name is {}.", "Hi, I'm {}.", "Call me {}."]
    )
    chat.ask(pattern.format(name))
    chat.answer(f"Nice to meet you, {name}.")
    return name


def recall_name(chat: Chat, source: Source, name: str) -> None:
    chat.ask(source.choice(["What is my name?", "Who am I?", "Do you remember my name?",
                            "what is my name", "What's my name?"]))  # fmt: skip
    chat.answer(f"Your name is {name}." if name else "You have not told me your name.")


def tell_story(name: str, noun: str, source: Source) -> str:
    other, place = source.choice(["friend", "brother", "sister", "neighbor"]), source.fill("{noun}")
    thing, adjective = source.fill("{adjective} {noun}"), source.fill("{adjective}")
    return (
        f"Once upon a time there was a {adjective} {noun} named {name}. "
        f"One day {name} went to the {place} and found a {thing}. "
        f"{name} showed the {thing} to a {other}. "
        f"They were very happy, and the {adjective} {noun} slept well that night. The end."
    )


def story(chat: Chat, source: Source) -> None:
    noun = source.fill("{noun}")
    name = source.name()
    ask = source.choice(["Tell me a story about a {noun}.", "Tell me a story about a {noun}",
                         "Write a short story about a {noun}.", "Tell a story about a {noun}."])  # fmt: skip
    if source.chance(0.5):
        ask = ask.rstrip(".") + " named {name}."
    chat.ask(ask.format(noun=noun, name=name))
    chat.answer(tell_story(name, noun, source))
