"""The rules of a grammar as a graph: what may be empty, and what may begin with what."""

from __future__ import annotations

from msgspec import Struct

from service.text.refused import Refused

# The engine's work doubles with each element that may be left out before one that begins alike.
_MOST_OPTIONAL = 16
_MOST_STEPS = 50_000


class Item(Struct):
    """An element of a sequence. `rule` is None for characters; `size` counts elements."""

    rule: str | None
    size: int
    least: int = 1
    most: int | None = 1


Rules = dict[str, list[list[Item]]]


def check_references(rules: Rules) -> None:
    if "root" not in rules:
        raise Refused("it has no rule `root`")
    for alternatives in rules.values():
        for sequence in alternatives:
            for item in sequence:
                if item.rule is not None and item.rule not in rules:
                    raise Refused(f"the rule `{item.rule}` is not defined")


def _nullable(rules: Rules) -> set[str]:
    """The rules that may match nothing, in time linear in the size of the grammar."""
    missing: list[int] = []  # of each sequence, how many elements still have to match something
    waiting: dict[str, list[tuple[str, int]]] = {name: [] for name in rules}
    ready: list[str] = []
    for name, alternatives in rules.items():
        for sequence in alternatives:
            needed = [item.rule for item in sequence if item.least]
            missing.append(len(needed))
            for rule in filter(None, needed):
                waiting[rule].append((name, len(missing) - 1))
            if not needed:
                ready.append(name)
    found: set[str] = set()
    while ready:
        empty = ready.pop()
        if empty in found:
            continue
        found.add(empty)
        for name, number in waiting[empty]:
            missing[number] -= 1
            if missing[number] == 0:
                ready.append(name)
    return found


def _leftmost(rules: Rules) -> dict[str, list[str]]:
    """For each rule those that a match of it may begin with, as often as they are met."""
    nullable = _nullable(rules)
    _check_optional(rules, nullable)
    out: dict[str, list[str]] = {}
    for name, alternatives in rules.items():
        met = out[name] = []
        for sequence in alternatives:
            for item in sequence:
                empty = item.rule in nullable
                if item.rule is not None:
                    met.extend([item.rule] * ((item.most or 1) if empty else 1))
                if item.least and not empty:
                    break
    return out


def _check_optional(rules: Rules, nullable: set[str]) -> None:
    for alternatives in rules.values():
        for sequence in alternatives:
            in_a_row = 0
            for item in sequence:
                empty = item.rule in nullable
                if empty and item.most is None:
                    raise Refused("it repeats without end what may be empty")
                optional = empty or item.least == 0
                in_a_row = in_a_row + ((item.most or 1) if empty else 1) if optional else 0
                if in_a_row > _MOST_OPTIONAL:
                    raise Refused(f"more than {_MOST_OPTIONAL} elements in a row may be left out")


def check_walk(rules: Rules) -> None:
    """No left recursion, and not too many paths for llama.cpp's search for it."""
    leftmost = _leftmost(rules)
    steps: dict[str, int] = {}
    for start in rules:
        _walk(start, leftmost, steps)
    if sum(steps.values()) > _MOST_STEPS:
        raise Refused("it is too ambiguous")


def _walk(start: str, leftmost: dict[str, list[str]], steps: dict[str, int]) -> None:
    """Depth first, without recursion; `steps` counts what recursion without memory would take."""
    if start in steps:
        return
    path = [start]
    on_path = {start}
    pending = [iter(leftmost[start])]
    while path:
        name = path[-1]
        below = next((rule for rule in pending[-1] if rule not in steps), None)
        if below is None:
            steps[name] = min(1 + sum(steps[rule] for rule in leftmost[name]), _MOST_STEPS + 1)
            on_path.discard(path.pop())
            pending.pop()
        elif below in on_path:
            shown = "a group" if below.startswith("(") else f"the rule `{below}`"
            raise Refused(f"{shown} begins with itself (left recursion)")
        else:
            path.append(below)
            on_path.add(below)
            pending.append(iter(leftmost[below]))
