"""Schemas, regular expressions and grammars, drawn from their own syntax: most of them are
well-formed, many cannot be met by any answer, some are no such thing at all."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz.values import NUMBERS, hostile, text

KINDS: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
FORMATS: Final = ("date", "date-time", "time", "email", "uuid", "ipv4", "uri", "nonsense")


def schema(random: Random, depth: int = 0) -> Any:
    """Any JSON schema, or something in the place of one."""
    if random.random() < 0.05:
        return hostile(random, 3)
    if depth > 4:
        return {"type": random.choice(KINDS)}
    below = depth + 1
    match random.randrange(10):
        case 0 | 1:
            names = [random.choice(("a", "b", "é", "", "a b", '"', "\\")) for _ in range(3)]
            return {
                "type": "object",
                "properties": {name: schema(random, below) for name in names},
                "required": random.sample([*names, "other"], random.randrange(3)),
                "additionalProperties": random.choice((True, False, {"type": "integer"})),
            }
        case 2:
            return {
                "type": "array",
                "items": schema(random, below),
                "minItems": small(random),
                "maxItems": small(random),
                **({"uniqueItems": True} if random.random() < 0.2 else {}),
            }
        case 3:
            return {
                "type": "string",
                "minLength": small(random),
                "maxLength": random.choice((0, 5, 2000, 10**9)),
                **({"pattern": regex(random)} if random.random() < 0.4 else {}),
                **({"format": random.choice(FORMATS)} if random.random() < 0.2 else {}),
            }
        case 4:
            return {
                "type": random.choice(("number", "integer")),
                "minimum": random.choice(NUMBERS),
                "maximum": random.choice(NUMBERS),
                **({"multipleOf": random.choice(NUMBERS)} if random.random() < 0.3 else {}),
            }
        case 5:
            return {"enum": [hostile(random, 3) for _ in range(random.randrange(4))]}
        case 6:
            word = random.choice(("anyOf", "oneOf", "allOf"))
            return {word: [schema(random, below) for _ in range(random.randrange(4))]}
        case 7:
            return {"not": schema(random, below)}
        case 8:
            target = random.choice(("#", "#/$defs/a", "#/$defs/none", "http://x/y", "#/%zz", "a"))
            return {"$ref": target, "$defs": {"a": schema(random, below)}}
        case _:
            return {"const": hostile(random, 3), "type": random.choice(KINDS)}


def small(random: Random) -> int:
    return random.choice((0, 0, 1, 2, 3, -1, 1000))


def regex(random: Random, depth: int = 0) -> str:
    atoms = ("a", ".", "\\d", "\\w+", "[a-z]", "[^x]", "[]]", "\\b", "^", "$", "é", "\\u0041", "\\")
    if depth > 4 or random.random() < 0.4:
        return random.choice(atoms)
    inner = regex(random, depth + 1)
    match random.randrange(8):
        case 0:
            return inner + regex(random, depth + 1)
        case 1:
            return f"{inner}|{regex(random, depth + 1)}"
        case 2:
            return f"({inner}){random.choice(('*', '+', '?', '{2}', '{0,}', '{3,1}', '{1,99999}'))}"
        case 3:
            return random.choice(("(?={})", "(?<!{})", "(?:{})", "(?P<n>{})", "({})\\1")).format(
                inner.replace("{", "").replace("}", "")
            )
        case 4:
            return inner[:-1]
        case _:
            return inner + random.choice(atoms)


def gbnf(random: Random) -> str:
    names = ("root", "a", "b", "c-d")
    rules = [f"{name} ::= {gbnf_body(random, names)}" for name in names]
    if random.random() < 0.15:
        return random.choice(("", "root", "root ::=", "a ::= b", text(random), 'start: "a"'))
    return "\n".join(rules[: random.randrange(1, 5)])


def gbnf_body(random: Random, names: tuple[str, ...], depth: int = 0) -> str:
    if depth > 3 or random.random() < 0.35:
        return random.choice(('"a"', '"\\x00"', "[a-z]", "[^\\n]", '""', ".", *names))
    inner = gbnf_body(random, names, depth + 1)
    match random.randrange(6):
        case 0 | 1:
            return f"{inner} {gbnf_body(random, names, depth + 1)}"
        case 2:
            return f"({inner} | {gbnf_body(random, names, depth + 1)})"
        case 3:
            return f"({inner}){random.choice('*+?')}"
        case 4:
            return f"({inner}){random.choice(('{2}', '{0,3}', '{5,1}', '{2001}', '{'))}"
        case _:
            return inner
