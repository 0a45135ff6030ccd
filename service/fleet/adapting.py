"""Which adapters a model is loaded with, and which of them a request gets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.catalog.card import ModelCard
from service.errors import InvalidRequest
from service.facts import Adapter
from service.generation import AdapterChoice, Selection
from service.settings import Settings

# Of one that is chosen by name, and has none of its own.
WHOLE: Final = 1.0


def configured(card: ModelCard, settings: Settings) -> tuple[Adapter, ...]:
    """The model's own first, which have no names, then the operator's."""
    own = [Adapter(path) for path in card.adapters]
    if any(each.adapters for each in settings.models.values()):
        for each in settings.own((card.name, *card.aliases)).adapters:
            path = each.path.expanduser().absolute()
            own.append(Adapter(str(path), each.called, each.scale))
    return tuple(own)


def by_default(adapters: Sequence[Adapter]) -> Selection:
    return tuple((number, each.scale) for number, each in enumerate(adapters) if each.scale)


def selected(adapters: Sequence[Adapter], choices: Sequence[AdapterChoice]) -> Selection:
    """Raises InvalidRequest for one that is not there, and for one that is named twice."""
    selection: dict[int, float] = {}
    for choice in choices:
        number = _number(adapters, choice.adapter)
        if number in selection:
            raise InvalidRequest(f"The adapter {choice.adapter} is there twice.", param="adapters")
        scale = choice.scale
        selection[number] = adapters[number].scale or WHOLE if scale is None else scale
    return tuple(sorted((number, scale) for number, scale in selection.items() if scale))


def _number(adapters: Sequence[Adapter], wanted: str | int) -> int:
    for number, adapter in enumerate(adapters):
        if wanted == number or (wanted and wanted == adapter.name):
            return number
    raise InvalidRequest(f"The model has no adapter `{wanted}`.", param="adapters")
