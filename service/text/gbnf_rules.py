"""The rules of a grammar that is being written: named expressions, and ways to combine them."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import commonprefix

from service.errors import InvalidRequest
from service.text.gbnf import literal

# JSON in GBNF. White space is bounded, or a model that likes it would write nothing else. A
# character may be escaped, but never to half of a surrogate pair, which is no text.
_JSON = {
    "ws": r'(" " | "\n" [ \t]{0,20})?',
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" unit)',
    "unit": r"[0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex",
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "pair": 'string ":" ws value',
    "object": '"{" ws (pair ("," ws pair)* ws)? "}"',
    "array": '"[" ws (value ("," ws value)* ws)? "]"',
}
_NEEDS = {
    "char": ("unit",),
    "unit": ("hex",),
    "string": ("char",),
    "number": ("integer",),
    "value": ("object", "array", "string", "number", "boolean", "null"),
    "pair": ("string", "value", "ws"),
    "object": ("pair", "ws"),
    "array": ("value", "ws"),
}
# Past this llama.cpp would take a repetition for one without end.
_LONGEST_RUN = 1000
_MOST_RUNS = 100
_LONGEST_TEXT = 1 << 19


class Unsatisfiable(InvalidRequest):
    """No value satisfies a schema. As one of several alternatives it is just left out."""


class GbnfRules:
    """Collects rules; `text` writes them out, `root` first.

    `param` is the request's field that all this is for, named in errors; `of` says what it holds.
    """

    def __init__(self, param: str, of: str = "JSON schema") -> None:
        self.param = param
        self._of = of
        self._rules: dict[str, str] = {}
        self._size = 0

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def text(self, root: str) -> str:
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return "\n".join(lines) + "\n"

    def refuse(self, why: str) -> InvalidRequest:
        """To be raised; `why` completes the sentence."""
        return InvalidRequest(f"The {self._of} cannot be used: {why}", param=self.param)

    def nothing(self, why: str) -> Unsatisfiable:
        """To be raised where there is nothing that could be written."""
        return Unsatisfiable(f"The {self._of} cannot be used: {why}", param=self.param)

    def json(self, name: str) -> str:
        """One of JSON's own rules, with all that it needs."""
        if name not in self._rules:
            self._rules[name] = _JSON[name]
            for needed in _NEEDS.get(name, ()):
                self.json(needed)
        return name

    def reserve(self, hint: str) -> str:
        """A name for a rule whose body follows, so that it can refer to itself."""
        name = f"{hint}-{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, body: str) -> str:
        self._rules[name] = body
        self._size += len(body)
        if self._size > _LONGEST_TEXT:
            raise self.refuse("it makes too large a grammar")
        return name

    def rule(self, hint: str, body: str) -> str:
        return self.define(self.reserve(hint), body)

    def choice(self, hint: str, bodies: Iterable[str]) -> str:
        unique = list(dict.fromkeys(bodies))
        return unique[0] if len(unique) == 1 else self.rule(hint, " | ".join(unique))

    def words(self, texts: Iterable[str]) -> str:
        """One of `texts`. Many become a tree: each alternative is looked at for each token."""
        try:
            return self._tree(sorted(set(texts)), 0)
        except RecursionError:
            raise self.refuse("too many of its texts begin alike") from None

    def repeat(self, name: str, least: int, most: int | None) -> str:
        """`name`, a rule, from `least` to `most` times."""
        if max(least, most or 0) > _LONGEST_RUN * _MOST_RUNS:
            raise self.refuse(f"it counts to more than {_LONGEST_RUN * _MOST_RUNS}")
        if most is None:
            return f"{self._exactly(name, least)} {name}*".strip()
        return f"{self._exactly(name, least)} {self._at_most(name, most - least)}".strip()

    def _tree(self, texts: list[str], depth: int) -> str:
        """`texts`, sorted, from the character at `depth` on."""
        if len(texts) <= 8:
            return self.choice("word", (literal(text[depth:]) for text in texts))
        shared = len(commonprefix([texts[0], texts[-1]]))
        branches: dict[str, list[str]] = {}
        for text in texts:
            branches.setdefault(text[shared : shared + 1], []).append(text)
        tree = self.rule("word", " | ".join(self._branch(b, shared) for b in branches.values()))
        return f"{literal(texts[0][depth:shared])} {tree}" if shared > depth else tree

    def _branch(self, texts: list[str], depth: int) -> str:
        if len(texts) == 1:
            return literal(texts[0][depth:])
        return f"{literal(texts[0][depth])} {self._tree(texts, depth + 1)}"

    def _exactly(self, name: str, times: int) -> str:
        runs, rest = divmod(times, _LONGEST_RUN)
        out = [f"{self._run(name)}{{{runs}}}"] if runs else []
        return " ".join(out + ([f"{name}{{{rest}}}"] if rest else []))

    def _at_most(self, name: str, times: int) -> str:
        """Whole runs and then less than one; the last run only up to what is left of `times`."""
        runs, rest = divmod(times, _LONGEST_RUN)
        if not runs:
            return f"{name}{{0,{rest}}}" if rest else ""
        run = self._run(name)
        fewer = f"{run}{{0,{runs - 1}}} " if runs > 1 else ""
        short = f"{fewer}{name}{{0,{_LONGEST_RUN - 1}}}"
        full = f"{run}{{{runs}}}" + (f" {name}{{0,{rest}}}" if rest else "")
        return f"({short} | {full})"

    def _run(self, name: str) -> str:
        run = f"{name}-run"
        if run not in self._rules:
            self.define(run, f"{name}{{{_LONGEST_RUN}}}")
        return run
