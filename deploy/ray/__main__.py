"""python -m deploy.ray [FILE]: a recipe on this machine alone, until a signal.

Ray's workers listen on every address; here nobody is heard there who has not a token that is made at
the start. There is no dashboard, and nobody is told that Ray is used.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import yaml

RECIPE: Final = Path(__file__).with_name("serve.yaml")
# Ray reads them when it is imported.
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def main(path: Path) -> None:
    wanted = yaml.safe_load(path.read_text())
    (told,) = wanted["applications"]
    os.environ.update(ENVIRONMENT)

    import ray
    from ray import serve

    from deploy.ray.serve_app import application

    ray.init(include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        serve.start(proxy_location=wanted["proxy_location"], http_options=wanted["http_options"])
        serve.run(application(told["args"]), name=told["name"], route_prefix=told["route_prefix"])
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        ended.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RECIPE)
