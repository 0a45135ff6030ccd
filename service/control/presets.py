"""Named sets of settings, and what they come to on the hardware that is there.

A preset says what is wanted; `fitted` says what of it this machine can give, and why. Threads are
never more than its cores, shares are those of as many GPUs as there are, and a context is one that
a model can use and memory can hold. What cannot be given is lowered, and the reason told.

Presets of the operator's own are in a YAML file (setting `presets_file`):

    night:
      description: Little, and quietly.
      extends: conservative
      settings: {threads: 2, keep_alive: 30}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from msgspec import Struct
from msgspec.structs import replace
from pydantic import TypeAdapter, ValidationError

from service.control.hardware import Hardware
from service.errors import InvalidRequest
from service.settings import Settings, SettingsError
from service.settings_errors import reason

LEAST_CONTEXT: Final = 4096
AUTO: Final = "auto"
# Where a service listens, and where it keeps things, is not how it works.
NOT_IN_PRESETS: Final = frozenset(
    {"config", "presets_file", "host", "port", "listeners", "insecure_no_auth", "state_dir"}
)

TAKING_MEMORY: Final = ("default_context_size", "gpu_layers", "tensor_split", "batch_size")

# Why a model would not be loaded with these settings; None where all would.
Refuses = Callable[[Mapping[str, Any]], str | None]


class Preset(Struct, frozen=True, kw_only=True):
    """settings: keys and values of `Settings`, as if there were hardware enough."""

    name: str
    title: str
    description: str
    settings: Mapping[str, Any]
    aliases: tuple[str, ...] = ()


class Resolved(Struct, frozen=True):
    """`patch` of the settings; `why` for each key whose value is not the one that is wanted."""

    preset: Preset
    patch: dict[str, Any]
    why: dict[str, str]


# "equal": the same share for each GPU. Threads, batches and times are those that installations of
# this service's forerunner know; a split of four shares is for four GPUs.
BUILT_IN: Final = (
    Preset(
        name="performance",
        title="High Performance",
        description="All that the GPUs can hold, and long contexts.",
        aliases=("high-performance", "high_performance"),
        settings={
            "tensor_split": "equal",
            "gpu_layers": 999,
            "threads": 32,
            "batch_size": 512,
            "default_context_size": 131072,
            "request_timeout": 1800.0,
            "log_level": "INFO",
            "enable_model_inspection": True,
            "preserve_think_tags": True,
        },
    ),
    Preset(
        name="balanced",
        title="Balanced",
        description="Less memory: shorter contexts, smaller batches, most on the first GPUs.",
        settings={
            "tensor_split": (0.4, 0.3, 0.2, 0.1),
            "gpu_layers": 90,
            "threads": 16,
            "batch_size": 256,
            "default_context_size": 32768,
            "request_timeout": 1200.0,
            "log_level": "INFO",
            "enable_model_inspection": True,
            "preserve_think_tags": True,
        },
    ),
    Preset(
        name="conservative",
        title="Conservative",
        description="Room to spare: short contexts, small batches, the last GPU left alone.",
        settings={
            "tensor_split": (0.5, 0.3, 0.2, 0.0),
            "gpu_layers": 50,
            "threads": 8,
            "batch_size": 128,
            "default_context_size": 16384,
            "request_timeout": 900.0,
            "log_level": "WARNING",
            "enable_model_inspection": False,
            "preserve_think_tags": False,
        },
    ),
)


class UnknownPreset(InvalidRequest):
    code = "unknown_preset"

    def __init__(self, name: str, known: Sequence[Preset]) -> None:
        names = ", ".join(preset.name for preset in known)
        super().__init__(f"There is no preset {name!r}; there are {names}", param="preset")


def find(name: str, presets: Sequence[Preset] = BUILT_IN) -> Preset:
    """Raises UnknownPreset."""
    word = spelled(name)
    for preset in presets:
        if word in map(spelled, (preset.name, *preset.aliases)):
            return preset
    raise UnknownPreset(name, presets)


def spelled(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def fitted(
    preset: Preset,
    hardware: Hardware,
    refuses: Refuses = lambda patch: None,
    longest: int | None = None,
) -> Resolved:
    """`longest`: the most tokens of context that any model can use, of all sequences together.

    (1) Cores, GPUs and models. (2) Memory: the split gives way first, then the context down to
    `LEAST_CONTEXT`; where that does not help, it is layers that there are too many of.
    """
    patch, why = dict(preset.settings), dict[str, str]()
    if "threads" in patch:
        _cap(patch, why, "threads", hardware.physical_cores, "physical cores are there to use")
    if "default_context_size" in patch and longest is not None:
        _cap(patch, why, "default_context_size", longest, "tokens are all that a model can use")
    _place(patch, why, len(hardware.gpus))
    if not patch.keys().isdisjoint(TAKING_MEMORY):
        _shrink(patch, why, refuses)
    return Resolved(preset, patch, why)


def _cap(patch: dict[str, Any], why: dict[str, str], key: str, most: int, words: str) -> None:
    wanted = patch[key]
    if wanted is not None and wanted > most:
        patch[key] = most
        why[key] = f"{most} in place of {wanted}: {most} {words}"


def _place(patch: dict[str, Any], why: dict[str, str], gpus: int) -> None:
    split = patch.get("tensor_split") or ()
    if split == "equal" and gpus > 1:
        patch["tensor_split"] = tuple([1 / gpus] * gpus)
        why["tensor_split"] = f"the same share for each of {gpus} GPUs"
    elif split and (gpus < 2 or len(split) != gpus):
        patch["tensor_split"] = ()
        why["tensor_split"] = (
            f"{'nothing to split over' if gpus < 2 else 'by free memory'}: "
            f"{gpus} GPU{'' if gpus == 1 else 's'}"
            + ("" if split == "equal" or gpus < 2 else f", and {len(split)} shares are wanted")
        )
    if gpus == 0 and patch.get("gpu_layers") not in (None, AUTO, 0):
        why["gpu_layers"] = f"auto in place of {patch['gpu_layers']}: no GPU to place layers on"
        patch["gpu_layers"] = AUTO


def _shrink(patch: dict[str, Any], why: dict[str, str], refuses: Refuses) -> None:
    first = refused = refuses(patch)
    wanted, tried = dict(patch), patch
    if first is None:
        return
    for tried in _lower(wanted):
        if (refused := refuses(tried)) is None:
            break
    for key in wanted:
        if tried[key] != wanted[key]:
            why[key] = f"{_shown(tried[key])} in place of {_shown(wanted[key])}: {first}"
    if refused is not None:
        key = next(key for key in TAKING_MEMORY if key in wanted)
        why[key] = f"not even this fits: {refused}"
    patch.update(tried)


def _lower(wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is tried in its place, in this order: any split, shorter contexts; then the same with
    as many layers as fit."""
    unsplit = {**wanted, "tensor_split": ()} if wanted.get("tensor_split") else dict(wanted)
    shorter = [unsplit, *_shorter(unsplit)]
    yield from shorter
    if wanted.get("gpu_layers") not in (None, AUTO):
        yield from ({**patch, "gpu_layers": AUTO} for patch in shorter)


def _shorter(patch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    context = patch.get("default_context_size")
    while context is not None and context > LEAST_CONTEXT:
        context = max(LEAST_CONTEXT, context // 2)
        yield {**patch, "default_context_size": context}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{share:g}" for share in value) or "no split"
    return str(value)


# The operator's own


def read_presets(path: Path, built_in: Sequence[Preset] = BUILT_IN) -> tuple[Preset, ...]:
    """The built-in ones and the file's. Raises SettingsError with all that is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"presets_file: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SettingsError(f"presets_file: {path} is not YAML") from None
    if content is None:
        return tuple(built_in)
    if not isinstance(content, dict):
        raise SettingsError(f"presets_file: {path} must be a mapping of names to presets")
    found, problems = list(built_in), list[str]()
    for name, body in content.items():
        known = {spelled(word) for preset in found for word in (preset.name, *preset.aliases)}
        if spelled(str(name)) in known:
            problems.append(f"{name}: there is a preset of that name already")
            continue
        wrong = list(_problems(body, found))
        problems += [f"{name}: {problem}" for problem in wrong]
        if not wrong:
            found.append(_preset(str(name), body, found))
    if problems:
        raise SettingsError(f"presets_file: {'; '.join(problems)}")
    return tuple(found)


def _problems(body: Any, known: Sequence[Preset]) -> Iterator[str]:
    if not isinstance(body, dict) or not isinstance(body.get("settings"), dict):
        yield "must have `settings`, a mapping"
        return
    for key in body.keys() - {"title", "description", "extends", "settings"}:
        yield f"{key}: there is no such part of a preset"
    for key in ("title", "description", "extends"):
        if not isinstance(body.get(key, ""), str):
            yield f"{key}: must be text"
    extends = body.get("extends")
    if isinstance(extends, str):
        try:
            find(extends, known)
        except UnknownPreset as error:
            yield f"extends: {error.message}"
    for key, value in body["settings"].items():
        if key not in Settings.model_fields or key in NOT_IN_PRESETS:
            yield f"settings.{key}: there is no such setting that a preset may have"
        elif not (key == "tensor_split" and value == "equal"):
            yield from (f"settings.{key}: {problem}" for problem in _invalid(key, value))


def _invalid(key: str, value: Any) -> Iterator[str]:
    try:
        _adapter(key).validate_python(value)
    except ValidationError as error:
        yield from map(reason, error.errors())


def _preset(name: str, body: Mapping[str, Any], known: Sequence[Preset]) -> Preset:
    own = {key: _value(key, value) for key, value in body["settings"].items()}
    preset = Preset(
        name=name,
        title=body.get("title", name),
        description=body.get("description", ""),
        settings=own,
    )
    if (extends := body.get("extends")) is None:
        return preset
    return replace(preset, settings={**find(extends, known).settings, **own})


def _value(key: str, value: Any) -> Any:
    """Numbers as numbers, whichever way they are written; `auto` is a word of its own."""
    if key == "tensor_split" and value == "equal":
        return value
    read = _adapter(key).validate_python(value)
    return read if isinstance(read, int | float | tuple) else value


def _adapter(key: str) -> TypeAdapter[Any]:
    """Of one setting, with its bounds."""
    field: Any = Settings.model_fields[key]
    return TypeAdapter(Annotated[field.annotation, field])
