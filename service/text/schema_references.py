"""Where the references of a JSON schema lead: within the document, by pointer or by anchor."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from service.text.gbnf_rules import GbnfRules


class References:
    def __init__(self, document: Any, rules: GbnfRules) -> None:
        self._document = document
        self._rules = rules
        self._anchors = _anchors(document)
        root = document.get("$id") if isinstance(document, dict) else None
        self._root = root.rstrip("#") if isinstance(root, str) else ""

    def target(self, ref: str) -> Any:
        """Raises InvalidRequest for what is not in the document."""
        here = ref.removeprefix(self._root) if self._root else ref
        if here and not here.startswith("#"):
            raise self._rules.refuse(f"`$ref` to `{ref[:80]}`, outside of it")
        pointer = unquote(here[1:])
        if pointer and not pointer.startswith("/"):
            if pointer not in self._anchors:
                raise self._rules.refuse(f"`{ref[:80]}` refers to nothing")
            return self._anchors[pointer]
        node = self._document
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise self._rules.refuse(f"`{ref[:80]}` refers to nothing")
        return node


def _anchors(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(anchor := node.get("$anchor"), str):
                found.setdefault(anchor, node)
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return found
