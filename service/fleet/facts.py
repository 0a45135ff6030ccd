"""What a loaded model says of itself: of the engine's messages the one that goes further up."""

from __future__ import annotations

from service.engine.wire import ModelFacts

__all__ = ["ModelFacts"]
