"""What a rule of the advice is, and the words and patches that rules have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.control.advice import Category, Needs, Verify
from service.control.evidence import Evidence
from service.model_settings import ModelSettings
from service.settings import Settings, tagged

GIB: Final = 1 << 30
MIB: Final = 1 << 20
# What settings of one model are called there, where it is not the same.
OWN: Final = {"default_context_size": "context_size"}


@dataclass(frozen=True)
class Finding:
    """Why a rule applies, with the numbers, and what it would change."""

    description: str
    action: str
    evidence: Mapping[str, Any]
    patch: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Rule:
    """query: PromQL that shows it. needs: of what has no patch; of a patch its keys tell.
    safety: what it is about can end the service, or the card. opportunity: nothing is wrong."""

    id: str
    category: Category
    component: str | None
    title: str
    impact: str
    risk: str
    query: str
    find: Callable[[Evidence], Finding | None] = field(repr=False)
    needs: Needs = "nothing"
    verify: Verify | None = None
    safety: bool = False
    opportunity: bool = False


FASTER: Final = Verify("llm_time_per_output_token_seconds", "down")
SOONER: Final = Verify("llm_time_to_first_token_seconds", "down")
SHORTER_QUEUE: Final = Verify("llm_request_queue_seconds", "down")
WHOLE: Final = Verify("llm_request_duration_seconds", "down")


def percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def size(bytes: float) -> str:
    return f"{bytes / GIB:.1f} GiB" if bytes >= GIB else f"{bytes / MIB:.0f} MiB"


def shares(values: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def above(value: float | None, limit: float) -> bool:
    """What is not known is not above anything."""
    return value is not None and value > limit


def below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def for_main(evidence: Evidence, **values: Any) -> dict[str, Any]:
    """A patch for the model with most to do, and for no other: nobody has asked whether it would do
    for those. Of the settings of all where it is the only one."""
    return for_model(evidence.settings, names_of(evidence), values, alone=alone(evidence))


def setting(evidence: Evidence, key: str) -> str:
    """What `for_main` changes, in words."""
    names = names_of(evidence)
    if key in for_model(evidence.settings, names, {key: None}, alone=alone(evidence)):
        return key
    return f"{OWN.get(key, key)} of {names[0]}"


def names_of(evidence: Evidence) -> tuple[str, ...]:
    main = evidence.main
    return () if main is None else (main.name, *main.aliases)


def alone(evidence: Evidence) -> bool:
    return evidence.main is not None and evidence.installed > 1


def for_model(
    settings: Settings, names: tuple[str, ...], values: Mapping[str, Any], *, alone: bool = False
) -> dict[str, Any]:
    """A patch with which these values count for the model: of its own settings where it has such or
    they are to be its `alone`, else of those of all. Some are of all models, whatever is wanted."""
    own = own_key(settings, names)
    mine = set(settings.models[own].model_fields_set) if own is not None else set[str]()
    if alone:
        mine = set(ModelSettings.model_fields)
    patch = {key: value for key, value in values.items() if OWN.get(key, key) not in mine}
    inner = {OWN.get(key, key): value for key, value in values.items() if key not in patch}
    if inner:
        patch["models"] = with_own(settings, {own or names[0]: inner})
    return patch


def with_own(settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`models` as it would be: the key is replaced as a whole."""
    written = {
        name: own.model_dump(mode="json", exclude_unset=True)
        for name, own in settings.models.items()
    }
    return written | {name: written.get(name, {}) | dict(own) for name, own in changes.items()}


def own_key(settings: Settings, names: tuple[str, ...]) -> str | None:
    wanted = {tagged(name) for name in names}
    return next((name for name in settings.models if tagged(name) in wanted), None)
