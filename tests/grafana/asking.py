"""A dashboard's queries as Grafana would send them: variables chosen and put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

# As Grafana has them for a scrape every 15 seconds and the last 15 minutes.
BUILT_IN: Final = {"__rate_interval": "60s", "__interval": "15s", "__range": "900s"}
SPECIAL: Final = re.compile(r"[\\^$*+?.()|\[\]{}']")
REFERENCE: Final = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")

# What a variable's values are, and which of them are chosen: None stands for All.
Choose = Callable[[Sequence[str]], Sequence[str] | None]


def everything(values: Sequence[str]) -> None:
    return None


def first(values: Sequence[str]) -> Sequence[str]:
    return values[:1]


def each(values: Sequence[str]) -> Sequence[str]:
    return values


def put_in(text: str, chosen: Mapping[str, str]) -> str:
    """Raises KeyError for a variable that there is not."""
    known = {**BUILT_IN, **chosen}
    return REFERENCE.sub(lambda found: known[found[1] or found[2]], text)


def escaped(value: str) -> str:
    """Twice: for the regular expression, and for the string that it is written as."""
    return SPECIAL.sub(lambda found: "\\\\" + ("\\\\" if found[0] == "\\" else found[0]), value)


def written(values: Sequence[str] | None) -> str:
    if values is None:
        return ".+"
    if len(values) == 1:
        return escaped(values[0])
    return f"({'|'.join(map(escaped, values))})"


def label_values(query: str) -> tuple[str, str]:
    """The series and the label that a variable's query names."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found is not None, query
    return found[1], found[2]


def choose(
    variables: Sequence[dict[str, Any]],
    values_of: Callable[[str, str], Sequence[str]],
    choice: Choose,
) -> dict[str, str]:
    """Variable → what is written for it; one after the other, since the later ask by the earlier."""
    chosen: dict[str, str] = {}
    for variable in variables:
        if variable["type"] != "query":
            continue
        series, label = label_values(variable["query"]["query"])
        values = values_of(put_in(series, chosen), label)
        # Grafana has nothing to choose from then, and leaves All.
        chosen[variable["name"]] = written(choice(values) if values else None)
    return chosen
