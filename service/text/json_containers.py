"""Arrays and objects of a JSON schema as GBNF expressions.

`visit` turns the schema of an item or property into an expression.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from service.text.gbnf import literal
from service.text.gbnf_rules import GbnfRules
from service.text.json_scalars import counts
from service.text.schema_merge import Schema

_MOST_PROPERTIES = 1000
_NOTHING = '""'

Visit = Callable[[Any], str]


def json_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair is no text, but JSON can write it.
    return json.dumps(value) if any("\ud800" <= char <= "\udfff" for char in text) else text


def array(schema: Schema, rules: GbnfRules, visit: Visit) -> str:
    """All of `prefixItems`, then `items`; the counts are of both together."""
    least, most = counts(schema, "minItems", "maxItems", rules)
    prefix = schema.get("prefixItems", [])
    rest = schema.get("items", not prefix)
    if isinstance(rest, list):
        raise rules.refuse("a list of `items` is called `prefixItems` since draft 2020-12")
    if not prefix and rest is True and not least and most is None:
        return rules.json("array")
    if rest is False and least > len(prefix):
        raise rules.refuse("`minItems` asks for more items than there may be")
    if most is not None and most < len(prefix):
        raise rules.refuse("`maxItems` is below the length of `prefixItems`")
    ws = rules.json("ws")
    parts = [visit(item) for item in prefix]
    if rest is False or most == len(prefix):
        body = f' "," {ws} '.join(parts)
        return rules.rule("array", f'"[" {ws} {body} {ws if body else ""} "]"')
    least, most = max(least - len(prefix), 0), None if most is None else most - len(prefix)
    if parts:
        more = rules.rule("item", f'"," {ws} {visit(rest)}')
        body = " ".join([f' "," {ws} '.join(parts), rules.repeat(more, least, most), ws])
    else:
        body = _list(visit(rest), least, most, rules)
    return rules.rule("array", f'"[" {ws} {body} "]"')


def _list(item: str, least: int, most: int | None, rules: GbnfRules) -> str:
    """`item` with commas between, and white space after the last."""
    ws = rules.json("ws")
    more = rules.rule("item", f'"," {ws} {item}')
    tail = rules.repeat(more, max(least - 1, 0), None if most is None else most - 1)
    return f"{item} {tail} {ws}" if least else f"({item} {tail} {ws})?"


def record(schema: Schema, rules: GbnfRules, visit: Visit) -> str:
    """An object: of the properties that are listed, or of any."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise rules.refuse("`properties` must be an object and `required` a list")
    if len(properties) + len(required) > _MOST_PROPERTIES:
        raise rules.refuse(f"an object has more than {_MOST_PROPERTIES} properties")
    extra = schema.get("additionalProperties", not properties)
    properties = {**properties, **{name: extra for name in required if name not in properties}}
    least, most = counts(schema, "minProperties", "maxProperties", rules)
    if not properties:
        return _map(extra, least, most, rules, visit)
    if least > len(required) or most is not None:
        raise rules.refuse("`minProperties` and `maxProperties` beside `properties`")
    return _listed_properties(properties, set(required), extra, rules, visit)


def _map(values: Any, least: int, most: int | None, rules: GbnfRules, visit: Visit) -> str:
    """An object of any keys, whose values all have one schema."""
    ws = rules.json("ws")
    if values is False or most == 0:
        if least:
            raise rules.refuse("`minProperties` asks for more than there may be")
        return rules.rule("object", f'"{{" {ws} "}}"')
    if values is True and not least and most is None:
        return rules.json("object")
    pair = rules.rule("pair", f'{rules.json("string")} ":" {ws} {visit(values)}')
    return rules.rule("object", f'"{{" {ws} {_list(pair, least, most, rules)} "}}"')


def _listed_properties(
    properties: dict[str, Any], required: set[str], extra: Any, rules: GbnfRules, visit: Visit
) -> str:
    """The properties in their order.

    Two rules for each, from the last to the first: what may follow where something was written
    before (`rest`, which begins with a comma), and where nothing was (`first`).
    """
    ws = rules.json("ws")
    rest, first = _extras(list(properties), extra, rules, visit)
    for name, schema in reversed(properties.items()):
        if schema is False and name not in required:
            continue
        pair = rules.rule("pair", f"{literal(json_text(name) + ':')} {ws} {visit(schema)}")
        with_comma, without = f'"," {ws} {pair} {rest}'.strip(), f"{pair} {rest}".strip()
        if name not in required:
            with_comma += f" | {rest or _NOTHING}"
            without += f" | {first or _NOTHING}"
        rest, first = rules.rule("rest", with_comma), rules.rule("first", without)
    return rules.rule("object", f'"{{" {ws} {first} {ws} "}}"')


def _extras(names: list[str], extra: Any, rules: GbnfRules, visit: Visit) -> tuple[str, str]:
    """Properties beyond the named ones: `rest` and `first`, as above."""
    if extra is False:
        return "", ""
    ws = rules.json("ws")
    pair = rules.rule("pair", f'{_other_key(names, rules)} ":" {ws} {visit(extra)}')
    rest = rules.rule("rest", f'("," {ws} {pair})*')
    return rest, rules.rule("first", f"({pair} {rest})?")


def _other_key(names: list[str], rules: GbnfRules) -> str:
    """A string that is none of `names`; written without escapes, which could spell one of them."""
    if sum(map(len, names)) > 4 * _MOST_PROPERTIES:
        raise rules.refuse("`additionalProperties` beside so many properties")
    rest = rules.rule("key", f"[{_NO_PLAIN}]*")
    return f'"\\"" {_other_than(names, 0, rest, rules)} "\\""'


_NO_PLAIN = r'^"\\\x7F\x00-\x1F'


def _other_than(names: list[str], depth: int, rest: str, rules: GbnfRules) -> str:
    branches: dict[str, list[str]] = {}
    for name in names:
        if len(name) > depth:
            branches.setdefault(name[depth], []).append(name)
    taken = "".join(f"\\U{ord(char):08X}" for char in branches)
    bodies = [f"[{_NO_PLAIN}{taken}] {rest}"]
    bodies += [
        f"{literal(char)} {_other_than(below, depth + 1, rest, rules)}"
        for char, below in branches.items()
        if char >= " " and char not in '"\\\x7f' and not "\ud800" <= char <= "\udfff"
    ]
    if not any(len(name) == depth for name in names):
        bodies.append(_NOTHING)
    return rules.choice("key", bodies)
