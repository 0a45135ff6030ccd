"""What a model is loaded with, where adapters have come and gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.facts import Adapter
from service.fleet.load_parameters import LoadParameters
from service.settings import Settings
from tests.fleet.fakes import card, write_script

STYLE = Adapter("/adapters/style.gguf", "style", 0.5)


def test_two_paths_of_one_file_are_one_key(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    other = tmp_path / "link.json"
    other.symlink_to(path)
    parameters = LoadParameters(Settings())

    assert parameters.key(card(path)) == parameters.key(card(other))


def test_an_adapter_of_the_operators_makes_another_key(tmp_path: Path) -> None:
    model = card(write_script(tmp_path))
    adapters: Any = {"models": {model.name: {"adapters": [{"path": "/adapters/style.gguf"}]}}}
    parameters = LoadParameters(Settings())

    assert parameters.key(model) != parameters.key(model, Settings(**adapters))


def test_adapters_that_were_changed_hold_as_long_as_the_operator_says_no_others(
    tmp_path: Path,
) -> None:
    model = card(write_script(tmp_path))
    written: Any = {"models": {model.name: {"adapters": [{"path": "/adapters/other.gguf"}]}}}
    parameters = LoadParameters(Settings())
    parameters.keep(model, (STYLE,))

    assert parameters.of(model).adapters == (STYLE,)
    assert parameters.of(model, Settings(default_context_size=64)).adapters == (STYLE,)
    (other,) = parameters.of(model, Settings(**written)).adapters
    assert other.path == "/adapters/other.gguf"
