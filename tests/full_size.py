"""How much of a thing a test does: `FULL_SIZE=1` is the size that is promised, else a part of it."""

from __future__ import annotations

import os
from typing import Final

FULL_SIZE: Final = os.environ.get("FULL_SIZE") == "1"
