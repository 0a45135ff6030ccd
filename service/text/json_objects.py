"""Objects of a JSON schema as GBNF expressions."""

from __future__ import annotations

from typing import Any

from service.text.gbnf import literal
from service.text.gbnf_rules import GbnfRules
from service.text.json_containers import Visit, json_text, possible, series
from service.text.json_scalars import counts
from service.text.schema_keywords import Schema
from service.text.string_patterns import pattern_rule

_MOST_PROPERTIES = 1000
_MOST_STATES = 4000
_NOTHING = '""'
_NO_PLAIN = r'^"\\\x7F\x00-\x1F'


def record(schema: Schema, rules: GbnfRules, visit: Visit) -> str:
    """An object: of the properties that are listed, or of any."""
    properties = schema.get("properties", {})
    required = list(dict.fromkeys(schema.get("required", [])))
    if len(properties) + len(required) > _MOST_PROPERTIES:
        raise rules.refuse(f"an object has more than {_MOST_PROPERTIES} properties")
    least, most = counts(schema, "minProperties", "maxProperties", rules)
    named = "patternProperties" in schema or "propertyNames" in schema
    if named:
        if properties or required:
            raise rules.refuse(
                "`patternProperties` or `propertyNames` beside `properties` or `required`"
            )
        return _map(_pair(schema, rules, visit), least, most, rules)
    stated = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
    # Where nothing is said of others, there are none: but what is required is no other.
    extra = not properties if stated is None else stated
    unlisted = True if stated is None else stated
    properties = {**properties, **{name: unlisted for name in required if name not in properties}}
    if not properties:
        if extra is True and not least and most is None:
            return rules.json("object")
        value = possible(extra, visit)
        pair = f'{rules.json("string")} ":" {rules.json("ws")} {value}' if value else ""
        return _map(pair, least, most, rules)
    return _Listed(properties, set(required), extra, least, most, rules, visit).expression()


def _map(pair: str, least: int, most: int | None, rules: GbnfRules) -> str:
    """An object of any names; of none if there is no `pair`."""
    ws = rules.json("ws")
    if not pair or most == 0:
        if least:
            raise rules.nothing("`minProperties` asks for more than there may be")
        return rules.rule("object", f'"{{" {ws} "}}"')
    body = series(rules.rule("pair", pair), least, most, rules)
    return rules.rule("object", f'"{{" {ws} {body} "}}"')


def _pair(schema: Schema, rules: GbnfRules, visit: Visit) -> str:
    """A property whose name is held to a pattern, or to a schema."""
    extra = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    ws = rules.json("ws")
    if "propertyNames" in schema:
        if "patternProperties" in schema:
            raise rules.refuse("`propertyNames` beside `patternProperties`")
        name = possible({"allOf": [{"type": "string"}, schema["propertyNames"]]}, visit)
        value = possible(extra, visit) if name else ""
        return f'{name} ":" {ws} {value}' if value else ""
    patterns = schema["patternProperties"]
    if len(patterns) > 1 or extra is not False:
        # Of two patterns, both may match one name: then both schemas hold its value.
        raise rules.refuse(
            "`patternProperties` of more than one pattern, or without `additionalProperties`: "
            "false, is not supported"
        )
    ((pattern, of),) = patterns.items() if patterns else (("", False),)
    value = possible(of, visit)
    return f'{pattern_rule(pattern, rules)} ":" {ws} {value}' if value else ""


class _Listed:
    """The properties in their order, then any others.

    Each choice is taken after the comma, where the names differ: a choice before it would make
    llama.cpp follow as many ways through every comma as there are properties left.
    """

    def __init__(
        self,
        properties: dict[str, Any],
        required: set[str],
        extra: Any,
        least: int,
        most: int | None,
        rules: GbnfRules,
        visit: Visit,
    ) -> None:
        self._rules = rules
        self._ws = rules.json("ws")
        self._least = least
        self._most = most
        self._pairs: list[tuple[str, bool]] = []
        for name, schema in properties.items():
            # What is required has to be possible, or there is no such object.
            value = visit(schema) if name in required else possible(schema, visit)
            if value:
                key = literal(json_text(name) + ":")
                pair = rules.rule("pair", f"{key} {self._ws} {value}")
                self._pairs.append((pair, name in required))
        value = "" if extra is False else possible(extra, visit)
        self._extra = ""
        if value:
            key = other_text(list(properties), rules)
            self._extra = rules.rule("pair", f'{key} ":" {self._ws} {value}')

    def expression(self) -> str:
        # Counted no further than it matters.
        cap = self._most if self._most is not None else max(self._least, 1)
        cap = min(cap, len(self._pairs) + 1) if not self._extra else cap
        if cap * len(self._pairs) > _MOST_STATES:
            raise self._rules.refuse("`minProperties` or `maxProperties` beside so many properties")
        # For each count of properties before: what is written next, and what may follow.
        states = [self._others(count) for count in range(cap + 1)]
        for pair, needed in reversed(self._pairs):
            states = [
                self._state(pair, needed, states[count], states[min(count + 1, cap)], count)
                for count in range(cap + 1)
            ]
        written, ends = states[0]
        if not written and not ends:
            raise self._rules.nothing("no object satisfies its counts of properties")
        body = f"{written} {self._ws}" if written else ""
        body = f"({body})?" if ends and body else body
        return self._rules.rule("object", f'"{{" {self._ws} {body} "}}"')

    def _others(self, count: int) -> tuple[str, bool]:
        """After the listed ones: a property more (nothing if there is none), and may it end?"""
        ends = count >= self._least
        left = None if self._most is None else self._most - count
        if not self._extra or left == 0:
            return "", ends
        more = self._rules.rule("rest", f'"," {self._ws} {self._extra}')
        limit = None if left is None else left - 1
        tail = self._rules.repeat(more, max(self._least - count - 1, 0), limit)
        return self._rules.rule("others", f"{self._extra} {tail}"), ends

    def _state(
        self,
        pair: str,
        needed: bool,
        skipped: tuple[str, bool],
        after: tuple[str, bool],
        count: int,
    ) -> tuple[str, bool]:
        ways = [] if needed or not skipped[0] else [skipped[0]]
        if self._most is None or count < self._most:
            following, ends = after
            more = f'"," {self._ws} {following}' if following else ""
            if more or ends:
                ways.insert(0, f"{pair} ({more})?" if more and ends else f"{pair} {more}".strip())
        written = self._rules.choice("next", ways) if ways else ""
        return written, skipped[1] and not needed


def other_text(texts: list[str], rules: GbnfRules) -> str:
    """A string that is none of `texts`; written without escapes, which could spell one of them."""
    if sum(map(len, texts)) > 4 * _MOST_PROPERTIES:
        raise rules.refuse("`additionalProperties` beside so many properties")
    rest = rules.rule("key", f"[{_NO_PLAIN}]*")
    return f'"\\"" {_other_than(texts, 0, rest, rules)} "\\""'


def _other_than(texts: list[str], depth: int, rest: str, rules: GbnfRules) -> str:
    branches: dict[str, list[str]] = {}
    for text in texts:
        if len(text) > depth:
            branches.setdefault(text[depth], []).append(text)
    taken = "".join(f"\\U{ord(char):08X}" for char in branches)
    bodies = [f"[{_NO_PLAIN}{taken}] {rest}"]
    bodies += [
        f"{literal(char)} {_other_than(below, depth + 1, rest, rules)}"
        for char, below in branches.items()
        if char >= " " and char not in '"\\\x7f' and not "\ud800" <= char <= "\udfff"
    ]
    if not any(len(text) == depth for text in texts):
        bodies.append(_NOTHING)
    return rules.choice("key", bodies)
