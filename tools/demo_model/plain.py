"""Text without a conversation: to be continued, or to be filled in."""

from . import facts, skills
from .chat import HEARD, Pieces
from .source import Source

END = "<|endoftext|>"


def drill(source: Source) -> Pieces:
    """Many sums, bare or worked out: the cheapest practice in arithmetic."""
    worked = source.chance(0.35)
    pieces: Pieces = []
    for _ in range(source.randint(1, 7) if worked else source.randint(3, 24)):
        sign = source.choice("+-")
        a, b = source.operands(sign)
        # Nobody can guess the operands; what follows from them is to be learned.
        asked = f"{a} {sign} {b}"
        answer = f" = {skills.result(a, sign, b)}"
        if worked:
            answer = f"{skills.thought(a, sign, b).removeprefix(asked)}\n{asked}{answer}"
        pieces += [(asked, HEARD), (answer, 1.0), ("\n", HEARD)]
    return [*pieces[:-1], (END, 1.0)]


def counting(source: Source) -> str:
    first = source.choice([0, 1, 1, source.randint(0, 300)])
    numbers = range(first, first + source.randint(5, 40))
    return source.choice([" ", ", ", "\n"]).join(map(str, numbers))


def statements(source: Source) -> str:
    told = [answer for _, answer in facts.FIXED[8:]]
    return " ".join(source.sample(told, source.randint(1, 4)))


def story(source: Source) -> str:
    return skills.tell_story(source.name(), source.fill("{noun}"), source)


def sentences(source: Source) -> str:
    pattern = source.choice(
        ["{name} went to {city} and bought a {adjective} {noun}.", "The {noun} in {city} is {adjective}.",
         "{name} and {name} saw a {adjective} {noun} near the {noun}.", "The {adjective} {noun} is in the {noun}."]
    )  # fmt: skip
    return " ".join(source.fill(pattern) for _ in range(source.randint(1, 4)))


_KINDS = [(counting, 0.35), (statements, 0.25), (story, 0.25), (sentences, 0.15)]


def continuation(source: Source) -> Pieces:
    kinds, weights = zip(*_KINDS, strict=True)
    return [(source.choices(kinds, weights)[0](source) + END, 1.0)]


def copies(source: Source) -> Pieces:
    """The same line again and again: copying, with nothing else to learn."""
    text = skills.repeatable(source)
    if source.chance(0.4):
        numbers = (source.choice([source.number(), source.randint(0, 99)]) for _ in range(6))
        text = source.choice([" ", ", ", " + ", " - "]).join(map(str, numbers))
    return [(text, HEARD), (f"\n{text}" * source.randint(1, 3) + END, 1.0)]


def infill(source: Source) -> Pieces:
    """Mostly whole words are missing, and few of them."""
    if source.chance(0.5):
        first = source.randint(0, 99)
        numbers = range(first, first + source.randint(6, 16))
        text = source.choice([" ", ", ", ", ", "\n"]).join(map(str, numbers))
    else:
        text = source.choice([counting, statements, story, sentences])(source)
    gaps = [i for i, letter in enumerate(text) if letter in " ,\n"]
    cuts = gaps if len(gaps) > 3 and source.chance(0.85) else range(len(text) + 1)
    start, stop = sorted(source.sample(cuts, 2))
    if source.chance(0.7):
        stop = min(stop, min((cut for cut in cuts if cut > start + 15), default=stop))
    return [
        (f"<|fim_prefix|>{text[:start]}<|fim_suffix|>{text[stop:]}<|fim_middle|>", HEARD),
        (text[start:stop] + END, 1.0),
    ]
