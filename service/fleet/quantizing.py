"""llama.cpp's quantization, in a child that may abort without anybody else's noticing."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

from service.errors import EngineFailed
from service.fleet.child import environment

logger = logging.getLogger(__name__)

QUANTIZER: Final = (sys.executable, "-P", "-m", "service.engine.quantize")
LAST_WORDS: Final = 4096


async def quantize(source: Path, destination: Path, ftype: str) -> None:
    """`ftype` as llama.cpp names it: Q4_K_M. Takes a minute for some GB. Raises EngineFailed; whoever
    gives up on it ends it."""
    process = await asyncio.create_subprocess_exec(
        *QUANTIZER,
        str(source),
        str(destination),
        ftype,
        env=environment(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    words = b""
    try:
        while piece := await process.stderr.read(LAST_WORDS):
            words = (words + piece)[-LAST_WORDS:]
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        logger.error("quantizing ended with %d: %s", code, words.decode("utf-8", "replace"))
        raise EngineFailed(f"llama.cpp could not quantize the model to {ftype}")
