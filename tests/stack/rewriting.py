"""Our files for Prometheus and Alertmanager, for a test that has seconds where they have minutes.

What is changed: addresses, the path of a secret, and how long things are waited for. What is asked
(each expression with its windows, each route, each inhibition) stays as it is committed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
# A minute is four seconds.
FASTER: Final = 15

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_WAITS: Final = re.compile(
    r"^( *(?:for|keep_firing_for|interval|evaluation_interval|group_wait|group_interval"
    r"|repeat_interval): *)(\d+)([smh])\b",
    re.M,
)


def prometheus(folder: Path, addresses: Mapping[str, str], **names: str) -> Path:
    """Writes prometheus.yml and the rules into the folder, and gives back the former's path. `names`:
    the addresses of what is looked up in DNS; what is not among them is left to be looked up."""
    (folder / "rules").mkdir(parents=True)
    for path in (ROOT / "prometheus/rules").glob("*.yml"):
        (folder / "rules" / path.name).write_text(faster(path.read_text()))
    token = folder / "metrics_token"
    token.write_text("no keys are in force\n")
    text = faster((ROOT / "prometheus/prometheus.yml").read_text())
    text = moved(text, {**addresses, "/run/secrets/metrics_token": str(token)})
    # Not in a second: a scrape may take as long as it likes to, on a busy machine.
    text = moved(text, {"scrape_interval: 15s": "scrape_interval: 2s"})
    configuration = yaml.safe_load(text)
    for job in configuration["scrape_configs"]:
        look_up(job, names)
    return written(folder / "prometheus.yml", yaml.safe_dump(configuration))


def look_up(job: dict[str, Any], names: Mapping[str, str]) -> None:
    """What DNS would have found of a job, labelled as it labels it."""
    for sought in job.get("dns_sd_configs", []):
        (name,) = sought["names"]
        if (address := names.get(name.removesuffix(".").replace("-", "_"))) is not None:
            job["dns_sd_configs"] = [each for each in job["dns_sd_configs"] if each is not sought]
            target = {"targets": [address], "labels": {"__meta_dns_name": name}}
            job["static_configs"] = [*job.get("static_configs", []), target]


def alertmanager(folder: Path, addresses: Mapping[str, str]) -> Path:
    """The webhooks that the file has in comments are taken out of them."""
    text = (ROOT / "alerting/alertmanager.yml").read_text()
    text = re.sub(
        r"^  # (webhook_configs:|- url: http:|  send_resolved: false)", r"  \1", text, flags=re.M
    )
    folder.mkdir(parents=True)
    (folder / "templates").symlink_to(ROOT / "alerting/templates")
    return written(folder / "alertmanager.yml", moved(faster(text), addresses))


def faster(text: str) -> str:
    def scaled(match: re.Match[str]) -> str:
        milliseconds = int(match[2]) * _SECONDS[match[3]] * 1000 // FASTER
        return f"{match[1]}{milliseconds}ms"

    return _WAITS.sub(scaled, text)


def moved(text: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        assert old in text, f"nothing is at {old}"
        text = text.replace(old, new)
    return text


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
