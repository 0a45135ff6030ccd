"""`python -m tests.store.pull_once STORE NAME`: one pull, and nothing else. To be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from service.catalog import names
from service.registries import Registries
from service.store.library import Library
from service.store.own_store import OwnStore


async def nothing(*_: object) -> None: ...


async def main(folder: str, name: str) -> None:
    host = name.partition("/")[0]
    registries = Registries.parse([f"http://{host}"])
    library = Library(OwnStore(Path(folder)), registries, nothing, nothing)
    async for steps in library.pull(names.parse(name)):
        if any(step.completed for step in steps):
            sys.stdout.write("arriving\n")
            sys.stdout.flush()
    await library.close()
    sys.stdout.write("success\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
