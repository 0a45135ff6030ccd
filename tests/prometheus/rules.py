"""The rules as they are committed, for tests that ask about them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "prometheus"


def rules(key: str) -> list[dict[str, Any]]:
    """All that have this key: `alert` or `record`."""
    documents = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("rules/*.yml"))]
    found = [rule for document in documents for g in document["groups"] for rule in g["rules"]]
    return [rule for rule in found if key in rule]


def names(expression: str) -> set[str]:
    """The metrics of an expression: what has an underscore or a colon and is no label of a list."""
    bare = re.sub(r'"[^"]*"|\{|\}', " ", re.sub(r"\{[^}]*\}", " ", expression))
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", bare)
    words = re.findall(r"[A-Za-z_:][\w:]*(?!\w)(?!\s*\()", bare)
    return set(words) - {"and", "or", "unless", "by", "on"}
