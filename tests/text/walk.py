"""Texts that a grammar accepts, by a random walk through its rules."""

from __future__ import annotations

from random import Random

from tests.text.matcher import Element, Matcher, Ranges

# Preferred where a class has them: what is written otherwise, and what is easily got wrong.
TELLING = '"\\/ \n\t0159aZz_-.é🦙\u2028\x7f'
PATIENCE = 60


def walk(matcher: Matcher, random: Random) -> str:
    """After `PATIENCE` choices the shortest way out is taken."""
    heights = matcher_heights(matcher)
    out: list[str] = []
    pending: list[Element] = [matcher.root]
    choices = 0
    while pending:
        element = pending.pop()
        if not isinstance(element, str):
            out.append(character(element, random))
            continue
        choices += 1
        alternatives = matcher.rules[element]
        if choices > PATIENCE:
            chosen = min(alternatives, key=lambda parts: height(parts, heights))
        else:
            chosen = random.choice(alternatives)
        pending += reversed(chosen)
    return "".join(out)


def matcher_heights(matcher: Matcher) -> dict[str, int]:
    heights: dict[str, int] = {}
    before: dict[str, int] | None = None
    while heights != before:
        before = dict(heights)
        for name, alternatives in matcher.rules.items():
            heights[name] = 1 + min(height(parts, before) for parts in alternatives)
    return heights


def height(parts: tuple[Element, ...], heights: dict[str, int]) -> int:
    named = [heights.get(part, 10_000) for part in parts if isinstance(part, str)]
    return min(max(named, default=0), 10_000)


def character(ranges: Ranges, random: Random) -> str:
    negated, spans = ranges
    telling = [c for c in TELLING if negated != any(a <= ord(c) <= b for a, b in spans)]
    if negated or (telling and random.random() < 0.5):
        return random.choice(telling)
    low, high = random.choice(spans)
    return chr(random.randint(low, high))
