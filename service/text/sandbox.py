"""Jinja that can neither run code nor run away.

A chat template comes with a model file, so somebody unknown wrote it. Jinja's own sandbox keeps
it from Python's internals (CVE-2024-34359 is what happens without), but not from
`'a' * 10**9` or from loops within loops. So here one rendering has `Limits`, and:

1. each turn of a loop and each call looks at the clock: the compiler is handed
   `iterable|_turns` for `iterable`, and the sandbox sends all calls through `call`;
2. whatever can make text or lists large says how large before it does so: `+`, `*`, `**`, `%`
   and `~`, methods of text, filters. The filters that no chat template needs are left out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import filters, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer


class Exhausted(SecurityError):
    """The template asks for more time or more text than any conversation needs."""


class Limits:
    """What one rendering may take: `characters` in any one text, `seconds` of its thread's time.

    Processor time and not the clock on the wall, so that a busy machine fails no template.
    """

    def __init__(self, characters: int, seconds: float) -> None:
        self.characters = characters
        self._deadline = time.thread_time() + seconds
        self._ticks = 0

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks & 63 == 0 and time.thread_time() > self._deadline:
            raise Exhausted("it takes too long")

    def size(self, characters: int) -> None:
        """Called before something of this size is made."""
        if characters > self.characters:
            raise Exhausted("it makes too much text")
        self.tick()


# Renderings may run in several threads at once, each with a context of its own.
_limits: ContextVar[Limits] = ContextVar("limits")


@contextmanager
def limited(limits: Limits) -> Iterator[Limits]:
    token = _limits.set(limits)
    try:
        yield limits
    finally:
        _limits.reset(token)


def _turns(items: Iterable[Any]) -> Iterator[Any]:
    tick = _limits.get().tick
    for item in items:
        tick()
        yield item


def _concat(parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    _limits.get().size(sum(map(len, texts)))
    return "".join(texts)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As HuggingFace's: Jinja's own escapes `<`, `>` and `&` for HTML, which no model has seen."""
    _limits.get().tick()
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=None if indent is None else min(indent, 16),
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: object) -> list[Any]:
    """`tools|map(…)|tojson`: Jinja's filters give iterators."""
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _size(value: object) -> int:
    return len(value) if isinstance(value, str) else 32


@pass_eval_context
def _join(
    context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    items = list(value)
    _limits.get().size(sum(map(_size, items)) + len(items) * _size(d))
    return filters.sync_do_join(context, items, d, attribute)


@pass_eval_context
def _replace(context: EvalContext, s: str, old: str, new: str, count: int | None = None) -> str:
    text = str(s)
    _limits.get().size(len(text) + text.count(str(old)) * len(str(new)))
    return filters.do_replace(context, text, old, new, count)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    columns = width if isinstance(width, int) else len(width)
    _limits.get().size(len(s) + (s.count("\n") + 1) * columns)
    return filters.do_indent(s, width, first, blank)


_FILTERS: dict[str, Callable[..., Any]] = {
    "tojson": _tojson,
    "join": _join,
    "replace": _replace,
    "indent": _indent,
    # Nothing is escaped here; Jinja's own `safe` would make `+` escape what follows.
    "safe": str,
    "_turns": _turns,
    "_concat": _concat,
}
_LEFT_OUT = (
    "batch", "center", "filesizeformat", "forceescape", "format", "pprint", "random", "slice",
    "striptags", "sum", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
)  # fmt: skip


def _method_size(text: str, method: str, args: tuple[Any, ...]) -> int:
    """About how large the result of a method of `text` will be."""
    if method in ("ljust", "rjust", "center", "zfill") and args and isinstance(args[0], int):
        return args[0]
    if method == "expandtabs":
        return len(text) * (args[0] if args and isinstance(args[0], int) else 8)
    if method == "replace" and len(args) > 1:
        return len(text) + text.count(str(args[0])) * len(str(args[1]))
    if method == "join" and args and isinstance(args[0], (list, tuple)):
        return sum(map(_size, args[0])) + len(args[0]) * len(text)
    return len(text)


# A width of five digits, or one that is computed, in a format string of either kind.
_WIDE_BRACES = re.compile(r"\{[^{}]*(?:\d{5}|\{)")
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\d{5}|\*)")
_LARGEST_BITS = 4096
_TOO_LARGE = 1 << 62


def _operation_size(operator: str, left: Any, right: Any) -> int:
    """About how large the result will be; more than any limit for what must not be computed."""
    if operator == "+":
        if type(left) is type(right) is str:
            return len(left) + len(right)
        return sum(len(side) for side in (left, right) if isinstance(side, (str, list, tuple)))
    if operator == "%":
        return _TOO_LARGE if isinstance(left, str) and _WIDE_PERCENT.search(left) else 0
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        bits = bits * abs(right) if operator == "**" else bits + right.bit_length()
        return _TOO_LARGE if bits > _LARGEST_BITS else 0
    sized, times = (right, left) if isinstance(left, int) else (left, right)
    if isinstance(sized, (str, list, tuple)) and isinstance(times, int):
        return len(sized) * times
    return 0


_OF_A_DICT = frozenset(dir(dict))
_PLAIN = frozenset({bool, int, float, str, list, dict, tuple})


class GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`, by which HuggingFace marks what to train on."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Counted(NodeTransformer):
    """Sends loops and `~` through filters of ours."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_turns", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_concat", [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment for chat templates, with the options that HuggingFace renders them with.

    Renders only within `limited(…)`.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock]
        )
        self.filters.update(_FILTERS)
        for name in _LEFT_OUT:
            self.filters.pop(name, None)
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)

    def getattr(self, obj: Any, attribute: str) -> Any:
        # Nearly always a message's key, or a variable of a namespace. Jinja's own way to the same
        # answer goes by an exception for each key, and took half of a rendering's time.
        if type(obj) is dict and attribute not in _OF_A_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is Namespace and attribute[:1] != "_":
            value = getattr(obj, attribute, None)
            if type(value) in _PLAIN:
                return value
        return super().getattr(obj, attribute)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            _limits.get().size(_method_size(owner, function.__name__, args))
        _limits.get().tick()
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _limits.get().size(_operation_size(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Templates may build lists of their own, as Kimi's do. The messages are made for one rendering.
        own = type(obj) is list and attr in ("append", "pop")
        return own or super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        # Any method of any text comes by here; only those that format give something back.
        if wrapped is not None and _WIDE_BRACES.search(value.__self__):
            raise Exhausted("it makes too much text")
        return wrapped

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Counted().visit(tree)
        return tree
