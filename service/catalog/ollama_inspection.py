"""What the `ollama` command says of the models in its stores, held against what their files say.

The command is not needed for anything: files are read without it. Where it is found, and
`enable_model_inspection` is on, a difference is worth knowing of: one of the two has an old file, or
reads it wrong. It asks its own server, on this machine unless OLLAMA_HOST says another; a model is
asked about once for as long as its file stays what it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from service.catalog.card import ModelCard, human
from service.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 10.0
_ROW: Final = re.compile(r"^ {4}(\S.*?) {2,}(\S.*?)\s*$")

# Of one model: what is told → (by the command, by the file).
Differences = Mapping[str, tuple[str, str]]


class Inspection:
    """`path`: where the command is looked for; None: in PATH."""

    def __init__(
        self,
        cards: Callable[[], Sequence[ModelCard]],
        settings: Callable[[], Settings],
        path: str | None = None,
    ) -> None:
        self._cards = cards
        self._settings = settings
        self._path = path
        self._known: dict[tuple[str, str, float], Differences] = {}

    def differences(self, card: ModelCard) -> Differences:
        """Empty where there are none, and where nobody was asked."""
        if not self._settings().enable_model_inspection:
            return {}
        return self._known.get(_key(card), {})

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            if self._settings().enable_model_inspection:
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Asks about each model that it does not know yet."""
        program = shutil.which("ollama", path=self._path)
        if program is None:
            return
        cards = [card for card in self._cards() if card.source == "ollama" and not card.problem]
        self._known = {key: self._known[key] for key in map(_key, cards) if key in self._known}
        for card in cards:
            if _key(card) in self._known:
                continue
            text = await _asked(program, card.name)
            if text is None:
                # Its server does not run, or does not know the model: another time perhaps.
                continue
            found = compared(text, card)
            self._known[_key(card)] = found
            for name, (theirs, ours) in found.items():
                logger.warning(
                    "%s: the ollama command says %s %s, the file %s", card.name, name, theirs, ours
                )


def compared(text: str, card: ModelCard) -> Differences:
    """Of what `ollama show` prints; what either does not tell is no difference."""
    ours = {
        "architecture": card.architecture,
        "parameters": human(card.parameter_count) if card.parameter_count else None,
        "context length": str(card.context_length) if card.context_length else None,
        "quantization": card.quantization,
    }
    theirs = told(text)
    return {
        name: (theirs[name], own)
        for name, own in ours.items()
        if own is not None and name in theirs and theirs[name].lower() != own.lower()
    }


def told(text: str) -> dict[str, str]:
    """The rows below `Model`, up to the next heading."""
    rows: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("    ") and line.strip():
            inside = line.strip() == "Model"
        elif inside and (match := _ROW.match(line)):
            rows[match[1]] = match[2]
    return rows


async def _asked(program: str, name: str) -> str | None:
    """None where it does not answer in time, or with an error."""
    process = await asyncio.create_subprocess_exec(
        program,
        "show",
        "--",
        name,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        # Also where this is cancelled.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return output.decode("utf-8", "replace") if process.returncode == 0 else None


def _key(card: ModelCard) -> tuple[str, str, float]:
    return card.name, card.path, card.modified
