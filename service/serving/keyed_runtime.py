"""The runtime as one key finds it: its own models and requests, and what is computed for it alone.

Without keys nothing of this is between a request and the runtime.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from service.access.caller import Caller, Scope
from service.catalog.card import ModelCard
from service.catalog.catalog import RootState
from service.errors import Forbidden, ModelNotFound
from service.fleet.residency import AS_IT_IS
from service.generation import (
    Chat,
    EmbeddingRequest,
    GenerationRequest,
    Infill,
    LoadWishes,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.fleet.calibration import Learnt
    from service.serving.adaptation import Adaptation
    from service.serving.runtime import (
        Embeddings,
        Generation,
        ModelStatus,
        Progress,
        Runtime,
        Tokenized,
    )

# Whose requests one may see, and end.
SEES_ALL: Final = frozenset({Scope.READ, Scope.ADMIN})
ENDS_ALL: Final = frozenset({Scope.ADMIN})


class KeyedRuntime:
    """A model that the key may not use is not there: not listed, and not found by any name.

    `shared_prefixes`: what was computed of a prompt serves other keys too.
    """

    def __init__(self, runtime: Runtime, caller: Caller, *, shared_prefixes: bool) -> None:
        self._runtime = runtime
        self._caller = caller
        self._shared = shared_prefixes

    # Models

    @property
    def draining(self) -> bool:
        return self._runtime.draining

    @property
    def leaving(self) -> bool:
        return self._runtime.leaving

    @property
    def ready(self) -> bool:
        return self._runtime.ready

    @property
    def adapters(self) -> Adaptation:
        return self._runtime.adapters

    def resolve(self, name: str | None) -> ModelCard:
        card = self._runtime.resolve(name)
        if not self._allowed(card):
            raise ModelNotFound(name or "default")
        return card

    def models(self) -> list[ModelStatus]:
        return [status for status in self._runtime.models() if self._allowed(status.card)]

    def status(self, name: str | None) -> ModelStatus:
        self.resolve(name)
        return self._runtime.status(name)

    def capabilities(self, card: ModelCard) -> frozenset[str]:
        return self._runtime.capabilities(card)

    @property
    def learnt(self) -> Learnt:
        return self._runtime.learnt

    def roots(self) -> tuple[RootState, ...]:
        return self._runtime.roots()

    async def load(
        self, model: str, keep_alive: float | None = None, wishes: LoadWishes = AS_IT_IS
    ) -> ModelStatus:
        self.resolve(model)
        return await self._runtime.load(model, keep_alive, wishes)

    async def unload(self, model: str) -> None:
        self._admit_to(Scope.ADMIN, "unloading a model")
        await self._runtime.unload(model)

    # Requests

    async def admit(self, request: GenerationRequest) -> Generation:
        self.resolve(request.model)
        if request.response_format.kind == "grammar":
            self._admit_to(Scope.GRAMMAR, "a grammar of one's own")
        salt = request.cache_salt
        if not self._shared:
            # No name of a key has the character between them.
            salt = f"{self._caller.name}/{salt}"
        return await self._runtime.admit(replace(request, cache_salt=salt, owner=self._caller.name))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.resolve(request.model)
        return await self._runtime.embed(replace(request, owner=self._caller.name))

    async def tokenize(self, model: str, input: Chat | Text | Infill) -> Tokenized:
        self.resolve(model)
        return await self._runtime.tokenize(model, input)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        self.resolve(model)
        return await self._runtime.detokenize(model, tokens)

    async def render(self, model: str, chat: Chat) -> str:
        self.resolve(model)
        return await self._runtime.render(model, chat)

    def progress(self, id: str) -> Progress | None:
        found = self._runtime.progress(id)
        return found if found is not None and self._sees(found) else None

    def journal(self) -> list[Progress]:
        return [progress for progress in self._runtime.journal() if self._sees(progress)]

    def cancel(self, id: str) -> bool:
        return self._may_end(id) and self._runtime.cancel(id)

    def dismiss(self, id: str) -> bool:
        return self._may_end(id) and self._runtime.dismiss(id)

    def dismiss_completed(self) -> int:
        ended = [progress.id for progress in self._runtime.journal() if progress.ended is not None]
        return sum(self.dismiss(id) for id in ended)

    def _allowed(self, card: ModelCard) -> bool:
        patterns = self._caller.models
        return not patterns or any(matches(card, pattern) for pattern in patterns)

    def _sees(self, progress: Progress) -> bool:
        return progress.owner == self._caller.name or self._caller.may(SEES_ALL)

    def _may_end(self, id: str) -> bool:
        if self._caller.may(ENDS_ALL):
            return True
        found = self._runtime.progress(id)
        return found is not None and found.owner == self._caller.name

    def _admit_to(self, scope: Scope, what: str) -> None:
        if scope not in self._caller.scopes:
            raise Forbidden(
                f"The API key '{self._caller.name}' lacks the scope for {what}: {scope}."
            )


def matches(card: ModelCard, pattern: str) -> bool:
    """With the tag or, where that is `latest`, without; patterns are in lower case."""
    name = card.name.lower()
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(":latest"), pattern)


def as_the_key_finds_it(state: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    shared = state["settings"].shared_prefix_cache
    return {
        **state,
        "runtime": KeyedRuntime(state["runtime"], caller, shared_prefixes=shared),
        "responses": state["responses"].of(caller.name),
    }
