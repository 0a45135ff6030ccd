"""JSON schema (draft 2020-12) to GBNF, as far as a context-free grammar can say it.

Whatever the grammar accepts is valid under the schema, with three exceptions: `oneOf` is read as
`anyOf`, names that a schema leaves open are not held to differ from each other, and `nullable`
allows null, as OpenAPI has it. It does not accept everything that is valid: properties come in
the schema's order, an object that lists `properties` has no others unless `additionalProperties`
says so or `required` names them, a tuple has all its items, keywords for one type imply that type,
and numbers have at most 16 digits. A keyword that no grammar can hold an answer to is refused by
name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from service.text.gbnf_rules import GbnfRules, Unsatisfiable
from service.text.json_arrays import array
from service.text.json_containers import json_text
from service.text.json_objects import other_text, record
from service.text.json_scalars import integer, number, string
from service.text.schema_keywords import KEYWORDS_OF, TYPES, Schema, constraints, listed, read
from service.text.schema_merge import inner, merged
from service.text.schema_negation import negated
from service.text.schema_references import References
from service.text.schema_values import enumerated, is_a, lists_values

LONGEST = 64 * 1024
DEEPEST = 32
_MOST_VISITS = 20_000
_MOST_WALKS = 2000


def schema_grammar(schema: Schema | bool, param: str = "response_format") -> str:
    """GBNF text with a rule `root`. Raises InvalidRequest(param)."""
    rules = GbnfRules(param)
    return rules.text(schema_expression(schema, rules))


def json_grammar() -> str:
    """Any JSON object."""
    rules = GbnfRules("response_format")
    return rules.text(rules.json("object"))


def schema_expression(
    schema: Schema | bool, rules: GbnfRules, document: Schema | None = None
) -> str:
    """`schema` as a GBNF expression; the rules that it needs are added to `rules`.

    document: what its references are within, if it is a part of something.
    """
    _check_size(schema, rules)
    try:
        return _Compiler(schema if document is None else document, rules).visit(schema, ())
    except RecursionError:
        raise rules.refuse("its references lead nowhere") from None


def _check_size(schema: Schema | bool, rules: GbnfRules) -> None:
    pending: list[tuple[Any, int]] = [(schema, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > 2 * DEEPEST:  # a schema and its `properties` are two levels of JSON
            raise rules.refuse(f"it nests deeper than {DEEPEST} levels")
        below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        pending += [(value, depth + 1) for value in below]
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        raise rules.refuse("it holds a number that JSON cannot write") from None
    if size > LONGEST:
        raise rules.refuse(f"it is larger than {LONGEST} bytes")


class _Compiler:
    """One schema document; `visit` turns a schema in it into an expression for its values.

    A rule that a value may begin with, without a character of its own, is walked through by
    llama.cpp once for each way that leads to it (see `gbnf`): `_walks` counts those ways.
    """

    def __init__(self, document: Schema | bool, rules: GbnfRules) -> None:
        self._document = document
        self._references = References(document, rules)
        self._rules = rules
        self._of_ref: dict[str, str] = {}
        self._walks: dict[str, int] = {}
        self._visits = 0

    def visit(self, schema: Any, refs: tuple[str, ...]) -> str:
        """`refs` are those that led here without anything being written in between."""
        schema = self._read(schema)
        if schema is True:
            return self._rules.json("value")
        if isinstance(schema, bool):
            raise self._rules.nothing("no value satisfies `false`")
        if "$ref" in schema:
            return self._reference(schema, refs)
        if "allOf" in schema:
            return self.visit(self._all_of(schema, refs), refs)
        if "not" in schema and not lists_values(schema["not"]):
            return self.visit(self._without_not(schema, refs), refs)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword, refs)
        if "const" in schema or "enum" in schema:
            return self._rules.words(map(json_text, enumerated(schema, self._rules)))
        return self._typed(schema)

    def _read(self, schema: Any) -> Schema | bool:
        self._visits += 1
        if self._visits > _MOST_VISITS:
            raise self._rules.refuse("it is too large once its references are followed")
        if isinstance(schema, dict) and "$id" in schema and schema is not self._document:
            raise self._rules.refuse("`$id` within it is not supported")
        return read(schema, self._rules)

    def _inner(self, schema: Any) -> str:
        return self.visit(schema, ())

    def _reference(self, schema: Schema, refs: tuple[str, ...]) -> str:
        if constraints(schema) != {"$ref"}:
            return self.visit(self._resolved(schema, refs), refs)
        ref = schema["$ref"]
        target = self._references.target(ref)
        self._check_loop(ref, refs)
        if ref not in self._of_ref:
            before = dict(self._of_ref)
            name = self._of_ref[ref] = self._rules.reserve("ref")
            try:
                body = self.visit(target, (*refs, ref))
            except Unsatisfiable:
                # Whatever was compiled meanwhile may refer to a rule that is not going to be.
                self._of_ref = before
                raise
            self._rules.define(name, body)
            self._walks[name] = 1 + self._walks.get(body, 1)
        return self._of_ref[ref]

    def _check_loop(self, ref: str, refs: tuple[str, ...]) -> None:
        if ref in refs:
            raise self._rules.refuse(f"`{ref[:80]}` is defined by itself")

    def _resolved(self, schema: Any, refs: tuple[str, ...]) -> Schema | bool:
        """What a reference refers to, merged with its neighbours; other schemas as they are."""
        schema = self._read(schema)
        rest: Schema | bool = True
        while isinstance(schema, dict) and "$ref" in schema:
            ref = schema["$ref"]
            self._check_loop(ref, refs)
            refs = (*refs, ref)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            rest = merged(inner(beside) if rest is not True else beside, rest, self._rules)
            schema = self._read(self._references.target(ref))
        return schema if rest in (True, {}) else merged(inner(schema), rest, self._rules)

    def _all_of(self, schema: Schema, refs: tuple[str, ...]) -> Schema | bool:
        out: Schema | bool = {key: value for key, value in schema.items() if key != "allOf"}
        for branch in schema["allOf"]:
            out = merged(out, inner(self._resolved(branch, refs)), self._rules)
        return out

    def _without_not(self, schema: Schema, refs: tuple[str, ...]) -> Schema | bool:
        rest = {key: value for key, value in schema.items() if key != "not"}
        against = negated(schema["not"], lambda part: self._resolved(part, refs), self._rules)
        return merged(rest, self._read(against), self._rules)

    def _any_of(self, schema: Schema, keyword: str, refs: tuple[str, ...]) -> str:
        base = {key: value for key, value in schema.items() if key != keyword}
        bodies: dict[str, None] = {}
        for branch in schema[keyword]:
            try:
                if base:
                    branch = merged(base, inner(self._resolved(branch, refs)), self._rules)
                bodies[self.visit(branch, refs)] = None
            except Unsatisfiable:
                continue
        if not bodies:
            raise self._rules.nothing(f"no value satisfies any of its `{keyword}`")
        walks = 1 + sum(self._walks.get(body, 1) for body in bodies)
        if walks > _MOST_WALKS:
            raise self._rules.refuse("it has too many alternatives within alternatives")
        name = self._rules.choice("any", bodies)
        self._walks[name] = walks
        return name

    def _typed(self, schema: Schema) -> str:
        types = listed(schema["type"]) if "type" in schema else _implied(schema)
        excluded = schema["not"]["enum"] if "not" in schema else []
        if not types and not excluded:
            return self._rules.json("value")
        types = list(dict.fromkeys(types or TYPES))
        if "number" in types:
            types = [name for name in types if name != "integer"]
        bodies: list[str] = []
        for name in types:
            try:
                values = [value for value in excluded if is_a(value, [name])]
                bodies.append(
                    self._other(name, values, schema) if values else self._of_type(name, schema)
                )
            except Unsatisfiable:
                if len(types) == 1:
                    raise
        if not bodies:
            raise self._rules.nothing("no value satisfies any of its types")
        return self._rules.choice("type", bodies)

    def _of_type(self, name: str, schema: Schema) -> str:
        if name in _SCALARS:
            return _SCALARS[name](schema, self._rules)
        if name in _CONTAINERS:
            return _CONTAINERS[name](schema, self._rules, self._inner)
        return self._rules.json(name)

    def _other(self, name: str, values: list[Any], schema: Schema) -> str:
        """Any value of a type but `values`."""
        if name == "null" or (name == "boolean" and len(set(values)) > 1):
            raise self._rules.nothing("its `not` leaves nothing")
        if name == "boolean":
            return '"false"' if values[0] else '"true"'
        if name == "string" and not KEYWORDS_OF["string"] & schema.keys():
            return other_text(values, self._rules)
        raise self._rules.refuse(f"`not` of single values of type {name} is not supported")


_SCALARS = {"string": string, "integer": integer, "number": number}
_CONTAINERS = {"array": array, "object": record}


def _implied(schema: Schema) -> Iterable[str]:
    """The types that keywords speak of, where the schema names none."""
    return [name for name, keywords in KEYWORDS_OF.items() if keywords & schema.keys()]
