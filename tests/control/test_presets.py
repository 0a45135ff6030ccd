"""Presets: what is wanted, and what of it a machine can give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.readings import GpuReading
from service.control.hardware import Hardware
from service.control.presets import (
    BUILT_IN,
    LEAST_CONTEXT,
    UnknownPreset,
    find,
    fitted,
    read_presets,
)
from service.settings import Settings, SettingsError

GIB = 1 << 30


def machine(cores: int = 16, gpus: int = 4) -> Hardware:
    cards = tuple(GpuReading(index=i, uuid=f"GPU-{i}") for i in range(gpus))
    return Hardware(cores, 2 * cores, 64 * GIB, 48 * GIB, cards)


def resolve(name: str, hardware: Hardware, *given: Any, **more: Any) -> dict[str, Any]:
    return fitted(find(name, *given), hardware, **more).patch


machines = st.builds(machine, st.integers(1, 256), st.integers(0, 9))
names = st.sampled_from([preset.name for preset in BUILT_IN])


@given(names, machines, st.none() | st.integers(256, 1 << 20))
def test_no_preset_asks_for_more_than_the_machine_has(
    name: str, hardware: Hardware, longest: int | None
) -> None:
    patch = resolve(name, hardware, longest=longest)

    assert 1 <= patch["threads"] <= hardware.physical_cores
    assert longest is None or patch["default_context_size"] <= longest
    split = patch["tensor_split"]
    assert split == () or len(split) == len(hardware.gpus) > 1
    assert split == () or sum(split) == pytest.approx(1)
    assert hardware.gpus or patch["gpu_layers"] == "auto"


@given(names, machines)
def test_each_preset_is_settings_that_can_be_honoured(name: str, hardware: Hardware) -> None:
    settings = Settings(**resolve(name, hardware))

    assert settings.tensor_split == resolve(name, hardware)["tensor_split"]


@given(names, machines, st.integers(0, 200_000), st.booleans())
def test_what_does_not_fit_is_lowered_until_it_does(
    name: str, hardware: Hardware, room: int, split_fits: bool
) -> None:
    def refuses(patch: Mapping[str, Any]) -> str | None:
        too_long = patch["default_context_size"] > room
        return "no room" if too_long or (patch["tensor_split"] and not split_fits) else None

    found = fitted(find(name), hardware, refuses)

    if room >= LEAST_CONTEXT:
        assert refuses(found.patch) is None
    else:
        assert found.patch["default_context_size"] == LEAST_CONTEXT
        assert "not even this fits" in found.why["default_context_size"]


def test_all_layers_are_worth_more_than_a_long_context_unless_they_never_fit() -> None:
    def refuses(patch: Mapping[str, Any]) -> str | None:
        most = 8192 if patch["gpu_layers"] == 90 else 20_000
        return f"too long for {most}" if patch["default_context_size"] > most else None

    def never(patch: Mapping[str, Any]) -> str | None:
        return refuses(patch) if patch["gpu_layers"] == "auto" else "too many layers"

    some = fitted(find("balanced"), machine(64), refuses)
    none = fitted(find("balanced"), machine(64), never)

    assert (some.patch["gpu_layers"], some.patch["default_context_size"]) == (90, 8192)
    assert some.why["default_context_size"] == "8192 in place of 32768: too long for 8192"
    assert (none.patch["gpu_layers"], none.patch["default_context_size"]) == ("auto", 16384)
    assert none.why["gpu_layers"] == "auto in place of 90: too many layers"


def test_what_takes_no_memory_is_not_lowered_for_its_sake(tmp_path: Path) -> None:
    presets = read_presets(own(tmp_path, "quiet: {settings: {threads: '2', log_level: ERROR}}"))
    quiet = fitted(find("quiet", presets), machine(), lambda patch: "no room for any model")

    assert (quiet.patch, quiet.why) == ({"threads": 2, "log_level": "ERROR"}, {})


def test_a_machine_with_everything_gets_all_that_is_wanted() -> None:
    assert fitted(find("balanced"), machine(64, 4)).why == {}
    assert resolve("balanced", machine(64, 4)) == dict(find("balanced").settings)


def test_what_is_not_given_as_wanted_is_explained() -> None:
    two = fitted(find("conservative"), machine(cores=2, gpus=0), longest=8192)

    assert two.patch["threads"] == 2
    assert two.why == {
        "threads": "2 in place of 8: 2 physical cores are there to use",
        "default_context_size": "8192 in place of 16384: 8192 tokens are all that a model can use",
        "tensor_split": "nothing to split over: 0 GPUs",
        "gpu_layers": "auto in place of 50: no GPU to place layers on",
    }
    three = fitted(find("balanced"), machine(64, 3)).why
    assert three == {"tensor_split": "by free memory: 3 GPUs, and 4 shares are wanted"}


@pytest.mark.parametrize("word", ["performance", "High Performance", "high_performance"])
def test_a_preset_has_the_names_that_pages_know(word: str) -> None:
    assert find(word).name == "performance"


def test_a_preset_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownPreset, match="performance, balanced, conservative"):
        resolve("turbo", machine())


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "presets.yaml"
    path.write_text(text)
    return path


def test_the_operators_own_presets_stand_beside_the_others(tmp_path: Path) -> None:
    path = own(tmp_path, """
night:
  description: Little, and quietly.
  extends: conservative
  settings: {threads: 2, tensor_split: "3,1", keep_alive: 30}
later: {extends: night, settings: {tensor_split: equal}}
""")  # fmt: skip
    presets = read_presets(path)
    night = resolve("night", machine(8, 2), presets)

    assert [preset.name for preset in presets] == [
        "performance", "balanced", "conservative", "night", "later",
    ]  # fmt: skip
    assert (night["threads"], night["tensor_split"], night["batch_size"]) == (2, (3, 1), 128)
    assert resolve("later", machine(8, 2), presets)["tensor_split"] == (0.5, 0.5)
    assert resolve("night", machine(1, 2), presets)["threads"] == 1


def test_an_empty_file_adds_none(tmp_path: Path) -> None:
    assert read_presets(own(tmp_path, "# later\n")) == BUILT_IN


def test_all_that_is_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = own(tmp_path, """
Balanced: {settings: {}}
high-performance: {settings: {}}
fast: {settings: {threads: 0, thread: 3, port: 80, log_level: LOUD}, colour: red, title: 5}
slow: {extends: none, settings: {}}
empty: 7
""")  # fmt: skip
    with pytest.raises(SettingsError) as error:
        read_presets(path)

    message = str(error.value)
    for part in (
        "Balanced: there is a preset of that name already",
        "high-performance: there is a preset of that name already",
        "fast: colour: there is no such part of a preset",
        "fast: title: must be text",
        "fast: settings.threads: Input should be greater than or equal to 1",
        "fast: settings.thread: there is no such setting that a preset may have",
        "fast: settings.port: there is no such setting that a preset may have",
        "fast: settings.log_level: Input should be",
        "slow: extends: There is no preset 'none'",
        "empty: must have `settings`, a mapping",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "is not YAML"), ("- a", "must be a mapping"), (None, "cannot read")],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "none" if text is None else own(tmp_path, text)
    with pytest.raises(SettingsError, match=words):
        read_presets(path)
