"""Key files for tests: the key of `NAME` is `llm-NAME`, and no real one looks like that."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def key_of(name: str) -> str:
    return f"llm-{name}"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key_of(name)}"}


def line(name: str, scopes: str, **options: Any) -> str:
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    return " ".join([name, scopes, f"sha256:{digest}", *(f"{k}={v}" for k, v in options.items())])


def put(path: Path, *lines: str, mode: int = 0o600) -> Path:
    """Whole or not at all, as `llm-inference keys` writes it."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{each}\n" for each in lines))
    new.chmod(mode)
    return new.replace(path)
