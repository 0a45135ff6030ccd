"""The tree of a regular expression, and what can be said of it: emptiness, lengths, its ends."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from msgspec import Struct

from service.text.refused import Refused

Ranges = tuple[tuple[int, int], ...]

# As in `gbnf_walk`: the engine's work doubles with each part that may be left out.
_MOST_OPTIONAL = 16
# Taking what may be empty out of a repetition can double a tree, at each level of it.
_MOST_NODES = 2000
_LAST = 0x10FFFF


class Anchor(Enum):
    START = "^"
    END = "$"


class Chars(Struct, frozen=True):
    """One character of a class."""

    ranges: Ranges


class Sequence(Struct, frozen=True):
    parts: tuple[Node, ...] = ()


class Choice(Struct, frozen=True):
    branches: tuple[Node, ...]


class Repeat(Struct, frozen=True):
    """`part` matches something each time: see `repeated`."""

    part: Node
    least: int
    most: int | None


Node = Chars | Sequence | Choice | Repeat | Anchor


class Branch(Struct, frozen=True):
    """One way to match: `body` holds no anchors."""

    body: Node
    from_start: bool
    to_end: bool


def repeated(part: Node, least: int, most: int | None) -> Node:
    if most == 0:
        return Sequence()
    if nullable(part):
        some = _something(part)
        if some is not None and _size(some) > _MOST_NODES:
            raise Refused("repeats too much that may be empty")
        return Sequence() if some is None else repeated(some, 0, most)
    if isinstance(part, Repeat) and part.least == 1 >= least and part.most is most is None:
        return Repeat(part.part, least, None)
    return part if least == most == 1 else Repeat(part, least, most)


def nullable(node: Node) -> bool:
    """Whether it may match nothing."""
    match node:
        case Chars():
            return False
        case Sequence(parts):
            return all(map(nullable, parts))
        case Choice(branches):
            return any(map(nullable, branches))
        case Repeat(_, least, _):
            return least == 0
        case Anchor():
            raise Refused(f"has `{node.value}` within a repetition")


def _something(node: Node) -> Node | None:
    """What `node` matches except nothing; None if that is all that it matches."""
    match node:
        case Sequence(parts) if nullable(node):
            ways = []
            for index, part in enumerate(parts):
                if (some := _something(part)) is not None:
                    ways.append(Sequence((some, *parts[index + 1 :])))
            return _choice(ways)
        case Choice(branches):
            some_of = map(_something, branches)
            return _choice(some for some in some_of if some is not None)
        case Repeat(part, 0, most):
            return repeated(part, 1, most)
        case _:
            return node


def _size(node: Node) -> int:
    match node:
        case Sequence(nodes) | Choice(nodes):
            return 1 + sum(map(_size, nodes))
        case Repeat(part, _, _):
            return 1 + _size(part)
        case _:
            return 1


def _choice(branches: Iterable[Node]) -> Node | None:
    unique = tuple(dict.fromkeys(branches))
    return (unique[0] if len(unique) == 1 else Choice(unique)) if unique else None


def branches(node: Node) -> list[Branch]:
    """The alternatives of a whole expression, each with what its anchors say.

    Raises Refused for anchors elsewhere, and for too many parts in a row that may be left out.
    """
    out: list[Branch] = []
    pending: list[tuple[Node, bool, bool]] = [(node, False, False)]
    while pending:
        node, from_start, to_end = pending.pop()
        if isinstance(node, Choice) and _holds_anchor(node):
            pending += [(branch, from_start, to_end) for branch in reversed(node.branches)]
            continue
        parts = list(node.parts) if isinstance(node, Sequence) else [node]
        while parts and parts[0] is Anchor.START:
            from_start = bool(parts.pop(0))
        while parts and parts[-1] is Anchor.END:
            to_end = bool(parts.pop())
        if len(parts) == 1 and isinstance(parts[0], (Choice, Sequence)) and _holds_anchor(parts[0]):
            pending.append((parts[0], from_start, to_end))
            continue
        if any(map(_holds_anchor, parts)):
            raise Refused("has `^` or `$` elsewhere than at its ends, which is not supported")
        body = parts[0] if len(parts) == 1 else Sequence(tuple(parts))
        _check_optional(body)
        out.append(Branch(body, from_start, to_end))
    return out


def _holds_anchor(node: Node) -> bool:
    match node:
        case Anchor():
            return True
        case Sequence(nodes) | Choice(nodes):
            return any(map(_holds_anchor, nodes))
        case Repeat(part, _, _):
            return _holds_anchor(part)
        case _:
            return False


def _check_optional(node: Node) -> int:
    """The most parts in a row that may be left out, at the start of `node`."""
    match node:
        case Sequence(parts):
            in_a_row = most = 0
            for part in parts:
                optional = _check_optional(part)
                in_a_row = in_a_row + optional if nullable(part) else optional
                most = max(most, in_a_row)
            if most > _MOST_OPTIONAL:
                raise Refused(f"has more than {_MOST_OPTIONAL} parts in a row that may be left out")
            return in_a_row
        case Choice(branches):
            return max(map(_check_optional, branches))
        case Repeat(part, least, _):
            return max(_check_optional(part), 0 if least else 1)
        case _:
            return 0


def lengths(node: Node) -> tuple[int, int | None]:
    """The fewest and the most characters that `node` matches, None for no limit."""
    match node:
        case Sequence(parts):
            all_of = [lengths(part) for part in parts]
            limits = [most for _, most in all_of]
            least = sum(least for least, _ in all_of)
            return least, None if None in limits else sum(filter(None, limits))
        case Choice(branches):
            all_of = [lengths(branch) for branch in branches]
            limits = [most for _, most in all_of]
            least = min(least for least, _ in all_of)
            return least, None if None in limits else max(filter(None, limits), default=0)
        case Repeat(part, times, most_times):
            least, most = lengths(part)
            unlimited = most is None or most_times is None
            return least * times, None if unlimited else (most or 0) * (most_times or 0)
        case _:
            return 1, 1


def of_length(node: Node, least: int, most: int | None) -> Node | None:
    """`node` where it matches `least` to `most` characters; None where that cannot be said.

    It can where the limits hold anyway, or where a single repetition decides the length.
    """
    shortest, longest = lengths(node)
    if shortest >= least and (most is None or (longest is not None and longest <= most)):
        return node
    parts = node.parts if isinstance(node, Sequence) else (node,)
    varying = [part for part in parts if len(set(lengths(part))) > 1]
    if len(varying) != 1 or not isinstance(part := varying[0], Repeat):
        return None
    width, same = lengths(part.part)
    if width != same:
        return None
    fixed = shortest - width * part.least
    low = max(part.least, -(-(least - fixed) // width))
    limits = [part.most, None if most is None else (most - fixed) // width]
    high = min((limit for limit in limits if limit is not None), default=None)
    if high is not None and high < low:
        raise Refused("matches no string of the length that is asked for")
    shorter = Sequence() if high == 0 else Repeat(part.part, low, high)
    return Sequence(tuple(shorter if other is part else other for other in parts))


def merged(ranges: Ranges) -> Ranges:
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return tuple(out)


def inverted(ranges: Ranges) -> Ranges:
    return without(((0, _LAST),), ranges)


def without(ranges: Ranges, taken: Ranges) -> Ranges:
    for first, last in taken:
        ranges = tuple(
            part
            for low, high in ranges
            for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
            if part[0] <= part[1]
        )
    return ranges
