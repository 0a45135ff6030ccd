from __future__ import annotations

import contextlib
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.control.config import (
    Version,
    differences,
    fingerprint,
    in_force,
    is_meant,
    made,
    patched,
    pending,
)
from service.errors import InvalidSettings
from service.settings import Settings
from service.settings_sources import Given, read


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LLM_"):
            monkeypatch.delenv(name)


def reasons(overrides: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        made(Given(), overrides)
    return caught.value.reasons


def refused(patch: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        patched({}, patch)
    return caught.value.reasons


def test_of_each_setting_the_last_place_that_says_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("threads: 2\nqueue_size: 3\nkeep_alive: 4\nlog_level: INFO\n")
    monkeypatch.setenv("LLM_QUEUE_SIZE", "30")
    monkeypatch.setenv("LLM_KEEP_ALIVE", "40")
    given = read({"config": path, "keep_alive": "400"})
    overrides = {"log_level": "ERROR"}
    settings = made(given, overrides)

    assert (settings.threads, settings.queue_size, settings.keep_alive) == (2, 30, 400)
    assert settings.log_level == "ERROR"
    assert [given.source(key, overrides) for key in
            ("batch_size", "threads", "queue_size", "keep_alive", "log_level")] == [
        "default", "file", "environment", "command line", "override"
    ]  # fmt: skip


def test_an_override_replaces_a_mapping_as_a_whole() -> None:
    given = Given(file={"aliases": {"a": "one"}})

    assert made(given, {"aliases": {"b": "two"}}).aliases == {"b": "two"}
    assert made(given, {"aliases": {}}).aliases == {}


def test_each_wrong_value_has_its_reason() -> None:
    found = reasons({"threads": 0, "log_level": "LOUD", "queue_timeout": "soon"})

    assert found.keys() == {"threads", "log_level", "queue_timeout"}


def test_what_cannot_be_honoured_together_is_the_fault_of_one() -> None:
    assert reasons({"prefill_chunk": 900, "batch_size": 512}) == {
        "prefill_chunk": "cannot be larger than batch_size"
    }


def test_unknown_keys_are_named() -> None:
    assert refused({"colour": "red", "shape": 1}) == {
        "colour": "there is no such setting",
        "shape": "there is no such setting",
    }


@pytest.mark.parametrize("key", ["threads", "queue_timeout", "log_level", "gpu_layers"])
def test_true_is_no_number_and_no_word(key: str) -> None:
    assert refused({key: True}) == {key: "cannot be true or false"}


def test_words_that_yaml_reads_as_true_are_taken() -> None:
    assert made(Given(), patched({}, {"flash_attention": True})).flash_attention == "on"
    assert made(Given(), patched({}, {"mmap": False})).mmap is False


def test_the_file_cannot_be_changed_from_above_it() -> None:
    assert refused({"config": "/other"}) == {"config": "can be said at the start only"}


def test_null_takes_an_override_away() -> None:
    assert patched({"threads": 1, "queue_size": 2}, {"threads": None}) == {"queue_size": 2}


def test_values_are_kept_as_json_has_them() -> None:
    kept = patched({}, {"tensor_split": (0.5, 0.5), "price_per_kwh": Decimal("0.31"),
                        "state_dir": Path("/x")})  # fmt: skip

    assert kept == {"tensor_split": [0.5, 0.5], "price_per_kwh": "0.31", "state_dir": "/x"}
    assert made(Given(), kept).price_per_kwh == Decimal("0.31")


def test_what_only_a_start_can_change_is_not_in_force_and_not_forgotten() -> None:
    started, wanted = Settings(port=1), Settings(port=2, queue_size=3)
    now = in_force(wanted, started)

    assert (now.port, now.queue_size) == (1, 3)
    assert pending(wanted, started) == ("port",)
    assert differences(started, wanted) == {"port": (1, 2), "queue_size": (None, 3)}


def test_a_version_is_meant_by_its_number_or_its_hash() -> None:
    version = Version(7, "abc", 0.0, "local", "start", {})

    assert [is_meant(version, word) for word in ("7", "abc", "8", "ab", "")] == [
        True, True, False, False, False
    ]  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["threads", "queue_size", "keep_alive", "log_level", "aliases"]),
        st.one_of(st.none(), st.integers(-3, 9), st.text(max_size=3), st.booleans()),
    )
)
def test_no_patch_is_worse_than_refused(patch: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidSettings):
        settings = made(Given(), patched({}, patch))
        assert fingerprint(settings) == fingerprint(made(Given(), patched({}, patch)))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_there_is_no_end_of_time(value: float) -> None:
    assert refused({"queue_timeout": value}) == {"queue_timeout": "must be a finite number"}
