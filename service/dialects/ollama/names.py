"""Which model a client of Ollama means, and Ollama's sentences for those that there are not."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from service.catalog.card import ModelCard
from service.dialects.state import State
from service.errors import InvalidRequest, ModelNotFound
from service.telemetry.http import exchange_of

NOT_FOUND: Final = "model '{}' not found"
# Where Ollama gets as far as to schedule the request.
NOT_PULLED: Final = 'model "{}" not found, try pulling it first'


class ModelUnknown(ModelNotFound):
    def __init__(self, model: str, sentence: str) -> None:
        super().__init__(model)
        self.message = sentence.format(model)


def known(
    request: Request[State], name: str, *, required: bool = True, unknown: str = NOT_FOUND
) -> ModelCard:
    """No name is `required`'s error, or that of a model nobody has: Ollama has no default model."""
    if not name:
        if required:
            raise InvalidRequest("model is required", param="model")
        raise ModelUnknown(name, NOT_FOUND)
    try:
        card = request.state["runtime"].resolve(name)
    except ModelNotFound:
        raise ModelUnknown(name, unknown) from None
    exchange_of(request.scope).model = card.name
    return card
