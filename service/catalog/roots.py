"""Where models lie: the directories that the operator named, and the places of other programs."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

Kind = Literal["directory", "ollama", "hub"]


class Root(Struct, frozen=True):
    """`kind` None: what it is shows when it is looked into. `named`: the operator did; of the
    others none need exist."""

    path: Path
    kind: Kind | None = None
    named: bool = True


def roots_of(
    named: Iterable[Path], *, discover: bool, environment: Mapping[str, str], home: Path
) -> list[Root]:
    """What the operator named goes first; a place that is also another's is there once."""
    found = [Root(path.absolute()) for path in named]
    if discover:
        found += usual(environment, home)
    unique: dict[str, Root] = {}
    for root in found:
        unique.setdefault(os.path.realpath(root.path), root)
    return list(unique.values())


def usual(environment: Mapping[str, str], home: Path) -> list[Root]:
    """Ollama's stores, of this user and of the Linux service, and HuggingFace's cache."""
    stores = [
        Path(given) for given in [environment.get("OLLAMA_MODELS", "").strip("\"' ")] if given
    ]
    stores += [
        home / ".ollama/models",
        Path("/usr/share/ollama/.ollama/models"),
        Path("/var/lib/ollama/.ollama/models"),
    ]
    cache = environment.get("XDG_CACHE_HOME") or home / ".cache"
    home_of_hub = Path(environment.get("HF_HOME") or Path(cache, "huggingface"))
    hub = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return [
        *(Root(path.expanduser().absolute(), "ollama", named=False) for path in stores),
        Root(Path(hub or home_of_hub / "hub").expanduser().absolute(), "hub", named=False),
    ]


def recognised(path: Path) -> tuple[Path, Kind]:
    """By what is in it; `~/.ollama` and `~/.cache/huggingface` mean what is below them. A directory
    is one of loose files until something else is there."""
    for store in (path, path / "models"):
        if (store / "manifests").is_dir() and (store / "blobs").is_dir():
            return store, "ollama"
    for cache in (path, path / "hub"):
        if _holds_repositories(cache):
            return cache, "hub"
    return path, "directory"


def _holds_repositories(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.name.startswith("models--") for entry in entries)
    except OSError:
        return False


def obstacle(path: Path, *, needed: bool) -> str | None:
    """Why nothing can be read there, with the directory that is in the way; None if it can. That
    there is no such place is one only where it is `needed`."""
    for folder in (*reversed(path.parents), path):
        try:
            if not modes.S_ISDIR(os.stat(folder).st_mode):
                return f"{folder} is not a directory"
        except FileNotFoundError:
            return "there is no such directory" if needed else None
        except OSError as error:
            return f"{folder} cannot be entered: {error.strerror}"
        if not os.access(folder, os.X_OK | (os.R_OK if folder == path else 0)):
            return f"{folder} cannot be entered: Permission denied"
    return None
