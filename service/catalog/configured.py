"""The catalogue that the settings describe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from service.catalog.architectures import Architectures, installed
from service.catalog.catalog import Catalog
from service.catalog.index import Index
from service.catalog.roots import Root, roots_of
from service.settings import Settings

MODEL_DIR: Final = Path("models")


def places_of(settings: Settings) -> list[Root]:
    roots = roots_of(
        settings.model_dir,
        discover=settings.discover_models,
        environment=os.environ,
        home=Path.home(),
    )
    places = roots if settings.model_dir else [Root(MODEL_DIR.absolute(), named=False), *roots]
    # What was asked for through this server goes before what was found.
    return [Root(settings.store.absolute(), "ollama", named=False), *places]


def catalog_of(settings: Settings) -> Catalog:
    return Catalog(
        places_of(settings),
        index=Index(settings.state_dir / "model-index.json"),
        architectures=Architectures(installed()),
        aliases=settings.aliases,
    )
