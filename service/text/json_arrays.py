"""Arrays of a JSON schema as GBNF expressions."""

from __future__ import annotations

from typing import Any

from service.text.gbnf_rules import GbnfRules
from service.text.json_containers import Visit, possible, series
from service.text.json_scalars import counts
from service.text.schema_keywords import Schema

_MOST_PLACES = 64


def array(schema: Schema, rules: GbnfRules, visit: Visit) -> str:
    """All of `prefixItems`, then `items`; the counts are of both together."""
    least, most = counts(schema, "minItems", "maxItems", rules)
    prefix = schema.get("prefixItems", [])
    rest = schema.get("items", schema.get("unevaluatedItems", not prefix))
    if "uniqueItems" in schema and (most is None or most > 1):
        raise rules.refuse("`uniqueItems` is not supported")
    if "contains" in schema and schema.get("minContains", 1):
        return _containing(schema, rest, least, most, rules, visit)
    if "maxContains" in schema and "contains" in schema:
        raise rules.refuse("`maxContains` is not supported")
    if not prefix and rest is True and not least and most is None:
        return rules.json("array")
    if most is not None and most < len(prefix):
        raise rules.refuse("`maxItems` is below the length of `prefixItems`")
    ws = rules.json("ws")
    parts = [visit(item) for item in prefix]
    item = "" if rest is False or most == len(prefix) else possible(rest, visit)
    if not item:
        if least > len(prefix):
            raise rules.nothing("`minItems` asks for more items than there may be")
        body = f' "," {ws} '.join(parts)
        return rules.rule("array", f'"[" {ws} {body} {ws if body else ""} "]"')
    least, most = max(least - len(prefix), 0), None if most is None else most - len(prefix)
    if parts:
        more = rules.rule("item", f'"," {ws} {item}')
        body = " ".join([f' "," {ws} '.join(parts), rules.repeat(more, least, most), ws])
    else:
        body = series(item, least, most, rules)
    return rules.rule("array", f'"[" {ws} {body} "]"')


def _containing(
    schema: Schema, rest: Any, least: int, most: int | None, rules: GbnfRules, visit: Visit
) -> str:
    """One item of those that it contains, in every place that it can have."""
    if "prefixItems" in schema or schema.get("minContains", 1) > 1 or "maxContains" in schema:
        raise rules.refuse(
            "`contains` beside `prefixItems`, `minContains` or `maxContains` is not supported"
        )
    if max(least, most or 0) > _MOST_PLACES or most == 0:
        raise rules.refuse(f"`contains` beside a count above {_MOST_PLACES}, or of 0")
    ws = rules.json("ws")
    special, item = visit({"allOf": [rest, schema["contains"]]}), possible(rest, visit)
    before, after = rules.rule("item", f'{item} "," {ws}'), rules.rule("item", f'"," {ws} {item}')
    bodies = []
    for place in range(max(least, 1) if most is None else most):
        limit = None if most is None else most - place - 1
        follow = rules.repeat(after, max(least - place - 1, 0), limit)
        bodies.append(f"{rules.repeat(before, place, place)} {special} {follow}")
    if most is None:
        bodies.append(f"{rules.repeat(before, max(least, 1), None)} {special} {after}*")
    return rules.rule("array", f'"[" {ws} ({" | ".join(bodies)}) {ws} "]"')
