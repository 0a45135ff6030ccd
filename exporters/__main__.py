"""python -m exporters: GPUs and host for Prometheus, on a port of their own.

So that heat and memory are still scraped while the service is down. Exit codes: 0 stopped as
asked, 1 cannot listen, 2 the arguments are wrong.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from exporters.collector import Guards
from exporters.monitors import NAMES, Monitors, is_engine
from exporters.sampler import INTERVAL_SECONDS

logger = logging.getLogger("exporters")

PORT: Final = 9836


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    monitors = Monitors(
        is_engine,
        given.model_store,
        given.expected_gpus,
        given.pcie_throughput,
        given.interval,
        [name for name in NAMES if not getattr(given, f"collector.{name}")],
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        server, thread = start_http_server(given.port, given.host, registry_of(monitors))
    except OSError as error:
        logger.error("Cannot listen on %s:%d: %s", given.host, given.port, error)
        return 1
    with monitors.running():
        logger.info("Listening on http://%s:%d/metrics", given.host, server.server_port)
        stopped.wait()
    server.shutdown()
    server.server_close()
    thread.join()
    return 0


def registry_of(monitors: Monitors) -> CollectorRegistry:
    registry, elsewhere = CollectorRegistry(), CollectorRegistry()
    of_this_process = {
        "process": ProcessCollector(registry=elsewhere),
        "platform": PlatformCollector(registry=elsewhere),
    }
    registry.register(Guards({**monitors.collectors, **of_this_process}))
    return registry


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporters",
        description="Serves metrics of GPUs, host and disks to Prometheus.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=port, default=PORT, help="port to listen on; 0: a free one")
    parser.add_argument(
        "--interval", type=seconds, default=INTERVAL_SECONDS, help="seconds between readings"
    )
    parser.add_argument(
        "--model-store",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a directory of models, whose file system is watched; may be said several times",
    )
    parser.add_argument(
        "--expected-gpus",
        type=count,
        metavar="N",
        help="GPUs that there should be; else as many as were seen",
    )
    parser.add_argument(
        "--pcie-throughput",
        action="store_true",
        help="measure it too, which takes 40 ms for each GPU and reading",
    )
    for name in NAMES:
        parser.add_argument(
            f"--collector.{name}", action=argparse.BooleanOptionalAction, default=True
        )
    return parser


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be between 0 and 65535")
    return int(text)


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be 0 or more")
    return int(text)


def seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 60:
        raise argparse.ArgumentTypeError("must be between 0.1 and 60")
    return value


if __name__ == "__main__":
    sys.exit(main())
