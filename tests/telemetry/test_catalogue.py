from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PRESENT = "present"


def catalogue() -> dict[str, str]:
    lines = FOLDER.joinpath("catalogue.txt").read_text().splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert len({name for name, _ in rows}) == len(rows)
    return {name: state.strip() for name, state in rows}


def exposed() -> dict[str, list[str]]:
    """family → its labels, as `test_exposition` holds them against /metrics."""
    lines = FOLDER.joinpath("families.txt").read_text().splitlines()
    return {name: [kind, *labels] for name, kind, *labels in map(str.split, lines)}


def without_suffix(name: str) -> str:
    return name.removesuffix("_total")


def test_every_family_of_the_catalogue_is_there_or_says_why_not() -> None:
    for name, state in catalogue().items():
        family, _, label = name.rstrip("}").partition("{")
        there = exposed().get(without_suffix(family))
        if label:
            assert there is not None
            assert label not in there
        else:
            assert (there is not None) == (state == PRESENT), name
        assert state == PRESENT or len(state.split()) > 3


def test_counters_alone_are_totals() -> None:
    for name in catalogue():
        if (there := exposed().get(without_suffix(name))) is not None:
            assert name.endswith("_total") == (there[0] == "counter"), name


def test_every_family_that_is_there_is_in_the_catalogue() -> None:
    present = {without_suffix(name) for name, state in catalogue().items() if state == PRESENT}

    assert exposed().keys() - present == set()
