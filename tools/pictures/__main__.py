"""python -m tools.pictures: measures, and draws docs/pictures/*.png, one for each dashboard.

The service runs with the demo model, a faked driver of four GPUs and users of all dialects;
Prometheus scrapes it, and Grafana's own components draw what the dashboards' queries are answered.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tools.pictures.drawing import bundle, draw
from tools.pictures.scene import ROOT, measurements

PICTURES: Final = ROOT / "docs" / "pictures"
MEASURED: Final = Path(sys.prefix, "pictures", "measured.json")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="how long it is put to work")
    parser.add_argument("--seed", type=int, default=7, help="of what the users ask for")
    parser.add_argument("--output", type=Path, default=PICTURES, help="folder to write to")
    parser.add_argument(
        "--again", action="store_true", help="draw what was measured last, and measure nothing"
    )
    given = parser.parse_args(arguments)
    if not given.again:
        measure(given.seconds, given.seed)
    pages: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text())
    bundle()
    given.output.mkdir(parents=True, exist_ok=True)
    for uid, page in pages.items():
        picture = given.output / f"{uid}.png"
        draw(page, picture)
        print(f"{picture.name}: {picture.stat().st_size >> 10} KiB")


def measure(seconds: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        found = measurements(Path(folder), seconds, seed)
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps({uid: page.plain() for uid, page in found.items()}))


if __name__ == "__main__":
    main()
