"""The YAML file that settings come from, and the words of older ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from service.settings_errors import SettingsError

MAX_DEPTH: Final = 16
# What files of Ollama-backed services say, and nothing here answers to; and why.
WITHOUT_MEANING: Final = {"llama_cpp_path": "the engine is llama-cpp-python's"}


@dataclass(frozen=True)
class SettingsFile:
    """`values`: of settings' keys, as they were written. `remarks`: a sentence for each other key that
    was passed over."""

    values: dict[str, Any]
    remarks: tuple[str, ...] = ()


class Cautious(yaml.SafeLoader):
    """For text from elsewhere: a few lines of aliases of aliases can mean gigabytes, and thousands
    of brackets take seconds to be refused by the interpreter's own limit."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError("too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_file(path: Path) -> SettingsFile:
    """Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"config: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"config: {path} is not YAML") from None
    return parse(text, str(path))


def parse(text: str, name: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> SettingsFile:
    """Raises SettingsError. `name`: of the text, for its errors."""
    try:
        # Safe: both are SafeLoaders.
        values = yaml.load(text, loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = (
            f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        )
        raise SettingsError(f"config: {name} is not YAML{where}") from None
    if values is None:
        return SettingsFile({})
    if not isinstance(values, dict):
        raise SettingsError(f"config: {name} must hold `key: value` lines")
    said = without_unset({str(key): values[key] for key in values})
    remarks = [
        f"{key} in {name} has no meaning here: {why}"
        for key, why in WITHOUT_MEANING.items()
        if said.pop(key, None) is not None
    ]
    return SettingsFile(translate_ollama_paths(said), tuple(remarks))


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
