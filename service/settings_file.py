"""The YAML file that settings come from, and the words of older ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class SettingsError(Exception):
    """One line that names the key and says what is wrong with it."""


def read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"config: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = (
            f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        )
        raise SettingsError(f"config: {path} is not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"config: {path} must hold `key: value` lines")
    return without_unset(translate_ollama_paths({str(key): values[key] for key in values}))


def without_unset(values: dict[str, Any]) -> dict[str, Any]:
    """`key:` with nothing behind it, or null, leaves the default in force."""
    return {key: value for key, value in values.items() if value is not None}


def translate_ollama_paths(values: dict[str, Any]) -> dict[str, Any]:
    """Files written for Ollama-backed services name the two halves of its store.

    `models_dir: S/blobs` and `manifests_dir: S/manifests/...` are one store S.
    """
    stores = []
    if blobs := values.pop("models_dir", None):
        path = Path(str(blobs))
        stores.append(path.parent if path.name == "blobs" else path)
    if manifests := values.pop("manifests_dir", None):
        path = Path(str(manifests))
        above = [
            parent for parent in path.parents if (parent / "manifests") in (path, *path.parents)
        ]
        stores.append(above[0] if above else path)
    if stores:
        named = values.get("model_dir") or []
        values["model_dir"] = [
            *([named] if isinstance(named, str) else named),
            *dict.fromkeys(stores),
        ]
    return values
