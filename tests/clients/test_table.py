from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.clients.probing import COLUMNS, Absent, Mount, Outcome, asked, told
from tests.clients.table import page

DATE = datetime.date(2026, 1, 2)


def outcomes(client: str, *mounts: str, **odd: Any) -> list[Outcome]:
    """All well, but for what `odd` says of a column."""
    return [
        Outcome(client, "1.2.3", mount, column, *odd.get(column, ("ok", "")))
        for mount in mounts
        for column in COLUMNS
    ]


def row(text: str, client: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {client} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_client_is_a_row_with_its_version_and_paths() -> None:
    text = page(outcomes("openai", "/v1", "/vllm/v1"), DATE)

    assert row(text, "openai") == ["openai", "1.2.3", "`/v1` `/vllm/v1`", *["yes"] * len(COLUMNS)]
    assert "2026-01-02" in text


def test_what_a_client_cannot_do_has_its_reason_once() -> None:
    no = ("absent", "There is no such call")
    text = page(outcomes("a", "/", "/x", embeddings=no) + outcomes("b", "/", embeddings=no), DATE)

    assert row(text, "a").count("– (1)") == row(text, "b").count("– (1)") == 1
    assert text.count("There is no such call") == text.count("\n\n1. There is no such call\n") == 1


def test_what_failed_at_one_path_is_told_of_that_path() -> None:
    failed = outcomes("a", "/bad", tools=("failed", "It broke"))
    text = page(outcomes("a", "/good") + failed, DATE)

    assert "yes, **no** (1)" in row(text, "a")
    assert "\n1. At `/bad`: It broke\n" in text


def test_a_column_that_no_line_speaks_of_was_not_run() -> None:
    text = page(outcomes("a", "/")[:-1], DATE)

    assert row(text, "a")[-1] == "not run"


def test_a_failure_is_told_in_one_short_line() -> None:
    with pytest.raises(ValueError) as caught:
        int("one\ntwo" * 1000)

    assert "\n" not in told(caught.value)
    assert len(told(caught.value)) <= 600


def test_whatever_a_probe_raises_is_its_outcome() -> None:
    mount = Mount("http://127.0.0.1:1", "/v1")

    def cannot() -> None:
        raise Absent("no such call")

    assert asked(lambda: None, mount, "plain") == ("ok", "")
    assert asked(cannot, mount, "plain") == ("absent", "no such call")
    assert asked(lambda: [][0], mount, "plain") == (
        "failed",
        "IndexError: list index out of range []",
    )
