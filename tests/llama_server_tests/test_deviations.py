from __future__ import annotations

from pathlib import Path

import pytest

from tools.llama_server_tests.deviations import Deviation, load

TABLE = """
[[deviation]]
class = "not served"
reason = "tools"
tests = ["test_tools.py", "test_a.py::test_one[x]"]

[[deviation]]
class = "deliberate"
reason = "named so"
tests = ["test_a.py::test_one"]

[figures."test_a.py::test_two[18]"]
n_prompt = 8
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "table.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("test_tools.py::test_any[1]", Deviation("not served", "tools")),
        ("test_a.py::test_one[x]", Deviation("not served", "tools")),
        ("test_a.py::test_one[y]", Deviation("deliberate", "named so")),
        ("test_a.py::test_one", Deviation("deliberate", "named so")),
        ("test_a.py::test_other", None),
    ],
)
def test_the_closest_entry_decides(tmp_path: Path, test: str, found: Deviation | None) -> None:
    assert load(written(tmp_path, TABLE)).of(test) == found


def test_what_counts_tokens_has_figures_of_its_own(tmp_path: Path) -> None:
    assert load(written(tmp_path, TABLE)).figures == {"test_a.py::test_two[18]": {"n_prompt": 8}}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (TABLE.replace("not served", "forgotten"), "forgotten is not one of"),
        (TABLE.replace("test_tools.py", "test_a.py::test_one"), "is there twice"),
    ],
)
def test_a_table_that_means_nothing_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        load(written(tmp_path, text))


def test_the_table_that_is_in_force_can_be_read() -> None:
    table = load()

    assert all(deviation.reason for deviation in table.deviations.values())
