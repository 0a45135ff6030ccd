from __future__ import annotations

from pathlib import Path

from service.control.tables import written

DOCUMENT = Path(__file__).parents[2] / "docs/optimization.md"


def test_the_document_has_each_component_and_each_rule_as_they_are() -> None:
    text = DOCUMENT.read_text()

    assert "<!-- components -->" in text
    assert "<!-- rules -->" in text
    assert written(text) == text, (
        "python -m service.control.tables docs/optimization.md writes them anew"
    )
