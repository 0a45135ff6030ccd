from __future__ import annotations

from pathlib import Path

import yaml

from tests.prometheus.rules import FOLDER, ROOT
from tests.stack import rewriting


def test_of_the_rules_only_waits_are_other_ones() -> None:
    waits = {"for", "keep_firing_for"}
    for path in FOLDER.glob("rules/*.yml"):
        groups = yaml.safe_load(path.read_text())["groups"]
        faster = yaml.safe_load(rewriting.faster(path.read_text()))["groups"]
        for before, after in zip(groups, faster, strict=True):
            for one, other in zip(before["rules"], after["rules"], strict=True):
                assert {key for key in one if one[key] != other[key]} == waits & one.keys()


def test_a_minute_is_four_seconds() -> None:
    assert (
        rewriting.faster("    for: 1m\n  interval: 30s\n")
        == "    for: 4000ms\n  interval: 2000ms\n"
    )


def test_of_the_routes_only_waits_and_addresses_are_other_ones(tmp_path: Path) -> None:
    ours = yaml.safe_load((ROOT / "alerting/alertmanager.yml").read_text())
    path = rewriting.alertmanager(tmp_path / "made", {"http://bridge:8080": "http://here"})
    rewritten = yaml.safe_load(path.read_text())

    assert rewritten["inhibit_rules"] == ours["inhibit_rules"]
    assert rewritten["route"]["group_by"] == ours["route"]["group_by"]
    for one, other in zip(ours["route"]["routes"], rewritten["route"]["routes"], strict=True):
        assert (one["matchers"], one["receiver"]) == (other["matchers"], other["receiver"])
    assert [list(receiver)[1:] for receiver in rewritten["receivers"]] == [
        ["webhook_configs"]
    ] * 3 + [[]]
