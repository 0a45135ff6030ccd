"""Breaks the rules of prometheus/rules one small way at a time, and says which breaks no test sees.

    python -m tools.mutate_rules [--sample N] [--jobs N]

A break is another comparison, threshold, `for`, label matcher, set operator or sign. Each is tried
by the tests that name the rule, and where these pass by all of them. Exit codes: 0 at least 90 % of
the breaks were seen, 1 fewer, 2 the rules as they are do not pass.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

PROMETHEUS: Final = Path(__file__).parents[1] / "prometheus"
ENOUGH: Final = 0.9

Document = dict[str, Any]


@dataclass(frozen=True)
class Mutant:
    """`place` is (file, group, rule) by name and number; `key` of that rule gets `value`."""

    place: tuple[str, int, int]
    rule: str
    key: str
    what: str
    value: str


# What is inside of quotes is matched by its own rules.
_TOKEN: Final = re.compile(
    r"""
      (?P<matcher>=~|!~|!=|=)(?="(?P<wanted>[^"]*)")
    | (?P<compare>==|!=|>=|<=|>|<)\s*(?:(?P<number>[0-9.]+)\b)?
    | \b(?P<set>and|or|unless)\b
    | (?<=[\s)])(?P<sign>[-/])(?=\s)
    | "[^"]*"
    """,
    re.VERBOSE,
)
_COMPARISONS: Final = {
    ">": ("<", ">="), ">=": ("<", ">"), "<": (">", "<="), "<=": (">", "<"), "==": ("!=",), "!=": ("==",),
}  # fmt: skip
_MATCHERS: Final = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_SETS: Final = {"and": ("unless",), "unless": ("and",), "or": ("and",)}
_SIGNS: Final = {"-": "+", "/": "*"}
_DURATION: Final = re.compile(r"([0-9]+)([smhd])")


def changed(expression: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the expression with it) for each small change there is."""
    for token in _TOKEN.finditer(expression):
        kind = token.lastgroup
        if kind == "wanted":
            operator = token["matcher"]
            yield replaced(expression, token.span("matcher"), _MATCHERS[operator])
            choices = token["wanted"].split("|")
            for left_out in choices if len(choices) > 1 else ():
                rest = "|".join(choice for choice in choices if choice != left_out)
                yield replaced(expression, token.span("wanted"), rest)
        elif kind in ("compare", "number"):
            for other in comparisons(token["compare"], token["number"]):
                yield replaced(expression, token.span("compare"), other)
            for number in neighbours(token["number"]) if kind == "number" else ():
                yield replaced(expression, token.span("number"), number)
        elif kind == "set":
            for other in _SETS[token["set"]]:
                yield replaced(expression, token.span("set"), other)
        elif kind == "sign":
            yield replaced(expression, token.span("sign"), _SIGNS[token["sign"]])


def comparisons(operator: str, number: str | None) -> Sequence[str]:
    """The opposite one, and the one that differs at the bound: not where the bound is a fraction,
    as what was measured hardly ever equals that."""
    at_most = 1 if number is not None and "." in number else 2
    return _COMPARISONS[operator][:at_most]


def neighbours(number: str) -> Sequence[str]:
    """A tenth more and less; of a count, one."""
    if "." not in number and int(number) < 20:
        return str(int(number) + 1), str(int(number) - 1)
    return f"{float(number) * 1.1:.10g}", f"{float(number) * 0.9:.10g}"


def replaced(text: str, span: tuple[int, int], by: str) -> tuple[str, str]:
    begin, end = span
    line = " ".join((text[max(0, begin - 30) : begin] + f"[{text[begin:end]} → {by}]").split())
    return line, text[:begin] + by + text[end:]


def other_durations(duration: str) -> Iterator[tuple[str, str]]:
    match = _DURATION.fullmatch(duration)
    assert match is not None, duration
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    for factor in (0.5, 1.5):
        yield f"[{duration} → {seconds * factor:g}s]", f"{int(seconds * factor)}s"


def mutants(file: str, document: Document) -> Iterator[Mutant]:
    for g, group in enumerate(document["groups"]):
        for r, rule in enumerate(group["rules"]):
            name = rule.get("alert") or rule["record"]
            for what, value in changed(rule["expr"]):
                yield Mutant((file, g, r), name, "expr", what, value)
            for key in ("for", "keep_firing_for"):
                for what, value in other_durations(rule[key]) if key in rule else ():
                    yield Mutant((file, g, r), name, key, f"{key} {what}", value)


class Bench:
    """The rules and the tests as they are; each trial has a folder of its own."""

    def __init__(self, file: str | None) -> None:
        """Of one file of rules, or of all; and the tests that read it."""
        self.rules = loaded(PROMETHEUS / "rules", file)
        every = loaded(PROMETHEUS / "tests")
        self.tests = {name: test for name, test in every.items() if reads(test, self.rules)}

    def mutants(self) -> list[Mutant]:
        return [m for file, document in self.rules.items() for m in mutants(file, document)]

    def passes(self, mutant: Mutant | None = None) -> bool:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            shutil.copytree(PROMETHEUS / "rules", folder / "rules")
            if mutant is None:
                return self._promtool(folder, self.tests)
            file, g, r = mutant.place
            document = yaml.safe_load((folder / "rules" / file).read_text())
            document["groups"][g]["rules"][r][mutant.key] = mutant.value
            (folder / "rules" / file).write_text(yaml.safe_dump(document))
            names = self._built_on(mutant.rule)
            near, rest = {}, {}
            for name, test in self.tests.items():
                if reads(test, [file]):
                    near[name], rest[name] = divided(names, test)
            return self._promtool(folder, near) and self._promtool(folder, rest)

    def _built_on(self, name: str) -> set[str]:
        """The rule, and the alerts whose expressions have it."""
        every = [r for d in self.rules.values() for g in d["groups"] for r in g["rules"]]
        return {
            name,
            *(rule["alert"] for rule in every if "alert" in rule and name in rule["expr"]),
        }

    def _promtool(self, folder: Path, tests: dict[str, Document]) -> bool:
        (folder / "tests").mkdir(exist_ok=True)
        paths = []
        for name, test in tests.items():
            if test["tests"]:
                paths.append(folder / "tests" / name)
                paths[-1].write_text(yaml.safe_dump(test))
        if not paths:
            return True
        command = ["promtool", "test", "rules", *map(str, paths)]
        return subprocess.run(command, capture_output=True).returncode == 0


def loaded(folder: Path, name: str | None = None) -> dict[str, Document]:
    paths = sorted(folder.glob(name or "*.yml"))
    return {path.name: yaml.safe_load(path.read_text()) for path in paths}


def reads(test: Document, rules: Iterable[str]) -> bool:
    return any(f"../rules/{file}" in test["rule_files"] for file in rules)


def divided(rules: set[str], document: Document) -> tuple[Document, Document]:
    """The tests that ask about these rules, and the others."""
    asked = [(test, str(test["promql_expr_test"])) for test in document["tests"]]
    about = [any(rule in text for rule in rules) for _, text in asked]
    near = [test for (test, _), it in zip(asked, about, strict=True) if it]
    rest = [test for (test, _), it in zip(asked, about, strict=True) if not it]
    return {**document, "tests": near}, {**document, "tests": rest}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutate_rules", description=__doc__)
    parser.add_argument("--sample", type=int, help="try only so many, drawn by --seed")
    parser.add_argument(
        "--file",
        choices=("alerts.yml", "recording.yml", "slo.yml"),
        help="break only the rules of this one",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="of promtool at a time (2)")
    given = parser.parse_args(arguments)
    bench = Bench(given.file)
    if not bench.passes():
        print("The tests fail with the rules as they are", file=sys.stderr)
        return 2
    tried = bench.mutants()
    if given.sample is not None:
        tried = random.Random(given.seed).sample(tried, given.sample)
    survivors = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for mutant, passed in zip(tried, pool.map(bench.passes, tried), strict=True):
            if passed:
                survivors += 1
                print(f"not seen: {mutant.rule} ({mutant.place[0]}): {mutant.what}", flush=True)
    caught = 1 - survivors / len(tried)
    print(f"{len(tried) - survivors} of {len(tried)} breaks were seen: {caught:.1%}")
    return int(caught < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
