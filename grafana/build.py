"""python -m grafana.build: writes the six dashboards as JSON, in the model that Grafana provisions
from files.

With --actions the buttons are there that change the service's configuration: requests that the
browser of whoever clicks sends to the address given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as sdk

from grafana import apis, config, gpu, models, optimization, overview
from grafana.actions import Actions
from grafana.page import Page

FOLDER: Final = Path(__file__).with_name("dashboards")
PAGES: Final[tuple[Callable[[Actions], Page], ...]] = (
    overview.page,
    gpu.page,
    models.page,
    apis.page,
    config.page,
    optimization.page,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m grafana.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument(
        "--actions",
        metavar="URL",
        help="address of the service as browsers reach it; without it there are no buttons",
    )
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    for uid, text in rendered(Actions(given.actions)).items():
        (given.output / f"{uid}.json").write_text(text, encoding="utf-8")


def rendered(actions: Actions) -> dict[str, str]:
    """uid → the file's text."""
    pages = [page(actions) for page in PAGES]
    return {page.uid: encode(page.build()) for page in pages}


def encode(dashboard: sdk.Dashboard) -> str:
    plain: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    without_extras(plain)
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def without_extras(dashboard: dict[str, Any]) -> None:
    """What the SDK writes of its own accord: it would hide links and switches in a menu, and gives
    all variables what only those of intervals have."""
    for shown in (*dashboard["links"], *dashboard["annotations"]["list"]):
        del shown["placement"]
    for variable in dashboard["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):
            del variable[key]


if __name__ == "__main__":
    main()
