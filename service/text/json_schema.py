"""JSON schema (draft 2020-12) to GBNF, as far as a context-free grammar can say it.

Whatever the grammar accepts is valid under the schema, with one exception: `oneOf` is read as
`anyOf`. It does not accept everything that is valid: properties come in the schema's order, an
object that lists `properties` has no others unless `additionalProperties` says so, a tuple has
all its items, and numbers have at most 16 digits. A keyword that no grammar can hold an answer
to is refused by name.
"""

from __future__ import annotations

import json
from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.json_containers import array, json_text, record
from service.text.json_scalars import integer, number, string
from service.text.schema_merge import KEYWORDS_OF, Schema, constraints, listed, merged

LONGEST = 64 * 1024
DEEPEST = 32
_MOST_VISITS = 20_000
_MOST_WALKS = 2000

_UNSUPPORTED = (
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems",
    "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
    "unevaluatedProperties", "unevaluatedItems", "multipleOf", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


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
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        pending += [(value, depth + 1) for value in inner]
    if len(json.dumps(schema)) > LONGEST:
        raise rules.refuse(f"it is larger than {LONGEST} bytes")


class _Compiler:
    """One schema document; `visit` turns a schema in it into an expression for its values.

    A rule that a value may begin with, without a character of its own, is walked through by
    llama.cpp once for each way that leads to it (see `gbnf`): `_walks` counts those ways.
    """

    def __init__(self, document: Schema | bool, rules: GbnfRules) -> None:
        self._document = document
        self._rules = rules
        self._of_ref: dict[str, str] = {}
        self._walks: dict[str, int] = {}
        self._visits = 0

    def visit(self, schema: Any, refs: tuple[str, ...]) -> str:
        """`refs` are those that led here without anything being written in between."""
        self._count()
        if schema is True:
            return self._rules.json("value")
        if not isinstance(schema, dict):
            raise self._rules.refuse("no value satisfies `false`")
        for keyword in _UNSUPPORTED:
            if schema.get(keyword) not in (None, False):
                raise self._rules.refuse(f"`{keyword}` is not supported")
        if "$ref" in schema:
            return self._reference(schema, refs)
        if "allOf" in schema:
            return self.visit(self._all_of(schema, refs), refs)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword, refs)
        if "const" in schema or "enum" in schema:
            return self._enum(schema)
        return self._typed(schema)

    def _count(self) -> None:
        self._visits += 1
        if self._visits > _MOST_VISITS:
            raise self._rules.refuse("it is too large once its references are followed")

    def _inner(self, schema: Any) -> str:
        return self.visit(schema, ())

    def _reference(self, schema: Schema, refs: tuple[str, ...]) -> str:
        if constraints(schema) != {"$ref"}:
            return self.visit(self._resolved(schema, refs), refs)
        ref = schema["$ref"]
        target = self._target(ref)
        if ref in refs:
            raise self._rules.refuse(f"`{ref[:80]}` is defined by itself")
        if ref not in self._of_ref:
            name = self._of_ref[ref] = self._rules.reserve("ref")
            body = self.visit(target, (*refs, ref))
            self._rules.define(name, body)
            self._walks[name] = 1 + self._walks.get(body, 1)
        return self._of_ref[ref]

    def _resolved(self, schema: Any, refs: tuple[str, ...]) -> Any:
        """What a reference refers to, merged with its neighbours; other schemas as they are."""
        while isinstance(schema, dict) and "$ref" in schema:
            self._count()
            ref = schema["$ref"]
            target = self._target(ref)
            if ref in refs:
                raise self._rules.refuse(f"`{ref[:80]}` is defined by itself")
            refs = (*refs, ref)
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = merged(target, rest, self._rules) if constraints(rest) else target
        return schema

    def _target(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise self._rules.refuse(f"`$ref` to `{str(ref)[:80]}`, outside of it")
        node: Any = self._document
        for step in ref[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise self._rules.refuse(f"`{ref[:80]}` refers to nothing")
        return node

    def _all_of(self, schema: Schema, refs: tuple[str, ...]) -> Any:
        out: Any = {key: value for key, value in schema.items() if key != "allOf"}
        for branch in self._branches(schema, "allOf"):
            self._count()
            out = merged(out, self._resolved(branch, refs), self._rules)
        return out

    def _any_of(self, schema: Schema, keyword: str, refs: tuple[str, ...]) -> str:
        base = {key: value for key, value in schema.items() if key != keyword}
        branches = [branch for branch in self._branches(schema, keyword) if branch is not False]
        if constraints(base):
            resolved = [self._resolved(branch, refs) for branch in branches]
            branches = [merged(base, branch, self._rules) for branch in resolved]
        bodies = list(dict.fromkeys(self.visit(branch, refs) for branch in branches))
        walks = 1 + sum(self._walks.get(body, 1) for body in bodies)
        if walks > _MOST_WALKS:
            raise self._rules.refuse("it has too many alternatives within alternatives")
        name = self._rules.choice("any", bodies)
        self._walks[name] = walks
        return name

    def _branches(self, schema: Schema, keyword: str) -> list[Any]:
        branches = schema[keyword]
        if not isinstance(branches, list) or not branches:
            raise self._rules.refuse(f"`{keyword}` must be a list of schemas")
        return branches

    def _enum(self, schema: Schema) -> str:
        if constraints(schema) - {"enum", "const", "type"}:
            raise self._rules.refuse("`enum` or `const` beside other constraints is not supported")
        types = listed(schema.get("type", list(_TYPES)))
        values = listed(schema.get("enum", [schema.get("const")]))
        if "const" in schema:
            values = [value for value in values if value == schema["const"]]
        values = [value for value in values if _is_a(value, types)]
        if not values:
            raise self._rules.refuse("no value satisfies its `enum` or `const`")
        return self._rules.words(map(json_text, values))

    def _typed(self, schema: Schema) -> str:
        types = listed(schema["type"]) if "type" in schema else _implied(schema)
        if not types:
            return self._rules.json("value")
        if "number" in types:
            types = [name for name in types if name != "integer"]
        return self._rules.choice("type", [self._of_type(name, schema) for name in types])

    def _of_type(self, name: Any, schema: Schema) -> str:
        if name in ("boolean", "null"):
            return self._rules.json(name)
        if name in _SCALARS:
            return _SCALARS[name](schema, self._rules)
        if name in _CONTAINERS:
            return _CONTAINERS[name](schema, self._rules, self._inner)
        raise self._rules.refuse(f"`{str(name)[:40]}` is no type")


_SCALARS = {"string": string, "integer": integer, "number": number}
_CONTAINERS = {"array": array, "object": record}


def _implied(schema: Schema) -> list[str]:
    """The type that keywords speak of, where the schema names none."""
    return [name for name, keywords in KEYWORDS_OF.items() if keywords & schema.keys()]


def _is_a(value: Any, types: list[Any]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, (int, float)):
        return "number" in types or ("integer" in types and value == value // 1)
    names: dict[type, str] = {dict: "object", list: "array", str: "string", type(None): "null"}
    return names[type(value)] in types
