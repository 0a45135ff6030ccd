"""The table of what is not as llama-server has it: for each test that deviates, why."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("deviations.toml")
# The test runs to its end; only what another model says, and in how many tokens, is not compared.
OTHER_WORDS = "another model's words"
CLASSES = (
    OTHER_WORDS,
    "another model's figures",
    "needs a download",
    "not served",
    "deliberate",
)


@dataclass(frozen=True)
class Deviation:
    kind: str
    reason: str


@dataclass(frozen=True)
class Table:
    """By test: `test_file.py`, `test_file.py::test_name` or `test_file.py::test_name[parameters]`.

    figures: parameters of a test that count tokens, with what the model here makes of them.
    """

    deviations: Mapping[str, Deviation]
    figures: Mapping[str, Mapping[str, Any]]

    def of(self, test: str) -> Deviation | None:
        """The closest entry decides."""
        for name in names_of(test):
            if name in self.deviations:
                return self.deviations[name]
        return None


def names_of(test: str) -> tuple[str, str, str]:
    function = test.partition("[")[0]
    return test, function, function.partition("::")[0]


def load(path: Path = TABLE) -> Table:
    """Raises ValueError for a class that there is not, and for a test that stands there twice."""
    content = tomllib.loads(path.read_text())
    deviations: dict[str, Deviation] = {}
    for entry in content.get("deviation", []):
        if entry["class"] not in CLASSES:
            raise ValueError(f"{entry['class']} is not one of {', '.join(CLASSES)}")
        for test in entry["tests"]:
            if test in deviations:
                raise ValueError(f"{test} is there twice")
            deviations[test] = Deviation(entry["class"], entry["reason"])
    return Table(deviations, content.get("figures", {}))
