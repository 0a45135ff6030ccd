"""Runs a client's probes with the Python that has the client, and keeps what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.clients.catalog import Client
from tests.clients.probing import Outcome

ROOT = Path(__file__).parents[2]
LINES = ROOT / "build/clients"


def python_of(client: Client) -> Path:
    if not client.environment:
        return Path(sys.executable)
    return Path(sys.prefix, "clients", client.environment, "bin/python")


def run(client: Client, server: str, home: Path) -> list[Outcome]:
    """One outcome for each mount and column. Raises where the probes themselves did not end.

    `home` is where the client finds no settings of the user's, and may keep its own.
    """
    ended = subprocess.run(
        [python_of(client), "-m", client.probes, server, *client.mounts],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, f"{client.name} ended with {ended.returncode}\n{ended.stderr}"
    LINES.mkdir(parents=True, exist_ok=True)
    (LINES / f"{client.name}.jsonl").write_text(ended.stdout)
    return [Outcome(**json.loads(line)) for line in ended.stdout.splitlines()]
