from __future__ import annotations

from tests.grafana.catalogue import (
    FOR_DEBUGGING,
    OF_LIBRARIES,
    in_rules,
    on_dashboards,
    present,
)


def test_every_family_on_a_dashboard_is_one_that_there_is() -> None:
    unknown = {name for name in on_dashboards() - present() if not OF_LIBRARIES.match(name)}

    assert unknown == set()


def test_every_family_is_on_a_dashboard_or_in_a_rule_or_for_debugging() -> None:
    unseen = present() - on_dashboards() - in_rules()

    assert unseen == FOR_DEBUGGING.keys()
    assert all(len(reason.split()) > 4 for reason in FOR_DEBUGGING.values())
