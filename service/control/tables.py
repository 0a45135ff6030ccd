"""python -m service.control.tables DOCUMENT: writes the tables of docs/optimization.md anew, from what
they tell of."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from service.control.components import PARTS, Part
from service.control.recommending import RULES
from service.control.rule import Rule

BETWEEN: Final = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def components() -> Iterator[str]:
    yield "| component | group | costs at most | unit | healthy at | at its worst at | because |"
    yield "|---|---|---|---|---|---|---|"
    yield from map(of_part, PARTS)


def of_part(part: Part) -> str:
    return (
        f"| `{part.id}` | {part.group} | {part.max_loss:g} | {part.unit} | {part.good:g} | "
        f"{part.bad:g} | {part.reason} |"
    )


def rules() -> Iterator[str]:
    yield "| id | about | what it says | worth | price |"
    yield "|---|---|---|---|---|"
    yield from map(of_rule, RULES)


def of_rule(rule: Rule) -> str:
    about = f"`{rule.component}`" if rule.component else "an opportunity"
    return f'| <a id="{rule.id}"></a>`{rule.id}` | {about} | {rule.title} | {rule.impact} | {rule.risk} |'


def written(document: str) -> str:
    """With its tables as they should be."""
    tables: Mapping[str, Iterator[str]] = {"components": components(), "rules": rules()}

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}{chr(10).join(tables[found[2]])}\n{found[3]}"

    return BETWEEN.sub(table, document)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text()))
