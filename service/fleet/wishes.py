"""What requests want of the way their model is loaded, and what it is worth. Pure.

A model is loaded anew for a longer context, which nobody loses by; so that clients with wishes
that grow bit by bit do not make it load again and again, it gets some more than was asked for. It
never shrinks. For other GPU layers it is loaded anew at most once in a turn: two clients that want
different ones could otherwise make it do nothing else. The rest of the wishes counts when it is
loaded for whatever reason. What is not met is reported by whoever asked.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import asdict, replace

from service.engine.wire import EngineParams
from service.facts import ModelFacts
from service.generation import LoadWishes

# Contexts grow in steps of so many tokens.
CONTEXT_STEP: Final = 4096


def worth_reloading(wishes: LoadWishes, facts: ModelFacts, *, turn_over: bool) -> LoadWishes | None:
    """What of the wishes the model is worth loading anew for, or None."""
    longer = None
    if wishes.n_ctx is not None and wishes.n_ctx > facts.n_ctx_seq < facts.n_ctx_train:
        steps = -(-wishes.n_ctx // CONTEXT_STEP)
        longer = min(steps * CONTEXT_STEP, facts.n_ctx_train)
    layers = None
    if wishes.gpu_layers is not None and facts.gpu_offload and turn_over:
        # llama.cpp counts the output as one more layer.
        wanted = min(wishes.gpu_layers, facts.n_layer + 1)
        layers = wanted if wanted != facts.gpu_layers else None
    if longer is None and layers is None:
        return None
    return replace(wishes, n_ctx=longer or wishes.n_ctx, gpu_layers=layers)


def covered(wishes: LoadWishes, refused: LoadWishes) -> bool:
    """Whether wishes ask for as much as some that could not be granted."""
    longer = refused.n_ctx is not None and (wishes.n_ctx or 0) >= refused.n_ctx
    return longer or (refused.gpu_layers is not None and wishes.gpu_layers == refused.gpu_layers)


def granted(params: EngineParams, wishes: LoadWishes) -> EngineParams:
    """With each wish in place of what the operator's settings say; a context is of one sequence."""
    wanted = {key: value for key, value in asdict(wishes).items() if value is not None}
    if wishes.n_ctx is not None:
        wanted["n_ctx"] = max(wishes.n_ctx * params.n_seq, params.n_ctx or 0)
    return replace(params, **wanted)
