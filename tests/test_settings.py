from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from service.dialects.routing import NAMES
from service.settings import Listener, Settings, SettingsError, is_loopback
from service.settings_needs import NEEDS
from service.settings_sources import load, read
from service.settings_table import table

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LLM_"):
            monkeypatch.delenv(name)


def yaml(folder: Path, text: str) -> Path:
    path = folder / "service.yaml"
    path.write_text(text)
    return path


def refused(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml(tmp_path, "port: 1\nthreads: 2\nparallel_slots: 3\n")
    monkeypatch.setenv("LLM_THREADS", "20")
    monkeypatch.setenv("LLM_PARALLEL_SLOTS", "30")

    settings = load({"config": config, "parallel_slots": "150"})

    assert (settings.queue_timeout, settings.port) == (60.0, 1)
    assert (settings.threads, settings.parallel_slots) == (20, 150)


def test_the_file_can_be_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_CONFIG", str(yaml(tmp_path, "port: 99")))

    assert load({}).port == 99


def test_each_key_of_the_seeds_file_does_what_it_says_or_is_said_to_mean_nothing() -> None:
    given = read({"config": ROOT / "tests/seed_settings.yaml"})
    settings = given.settings()

    assert settings.model_dump(exclude_unset=True, exclude={"config"}) == {
        "model_dir": (Path("/opt/llm/models/ollama/models"),),
        "default_context_size": 131_072,
        "tensor_split": (0.25, 0.25, 0.25, 0.25),
        "gpu_layers": 999,
        "threads": 32,
        "batch_size": 512,
        "request_timeout": 1800.0,
        "log_level": "INFO",
        "enable_model_inspection": True,
        "preserve_think_tags": True,
    }
    assert settings.default_model is None
    (remark,) = given.remarks
    assert remark.startswith("llama_cpp_path in ")
    assert remark.endswith(" has no meaning here: the engine is llama-cpp-python's")


def test_a_key_without_meaning_that_says_nothing_is_not_remarked_on(tmp_path: Path) -> None:
    given = read({"config": yaml(tmp_path, "llama_cpp_path:\nthreads: 2\n")})

    assert (given.file, given.remarks) == ({"threads": 2}, ())


def test_directories_are_separated_as_a_path_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MODEL_DIR", "/a:/b c")
    assert load({}).model_dir == (Path("/a"), Path("/b c"))

    monkeypatch.delenv("LLM_MODEL_DIR")
    assert load({"model_dir": ["/x", "/y"]}).model_dir == (Path("/x"), Path("/y"))


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "")

    assert load({}).default_model is None


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ALLOWED_HOSTS", "llm, llm.example")

    assert load({}).allowed_hosts == ("llm", "llm.example")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("portt: 1", "portt: there is no such setting"),
        ("port: [1]", "port: "),
        ("port: 70000", "port: "),
        ("just words", "must hold `key: value` lines"),
        ("a: b: c", "is not YAML in line 1"),
        ("port: 1\n\tthreads: 2", "is not YAML in line 2"),
    ],
)
def test_a_mistake_in_the_file_stops_the_start_and_is_named(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in refused(config=yaml(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "No such file" in refused(config=tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"host": "::"}, "host"),
        ({"host": "llm.example"}, "host"),
        ({"tensor_split": "0.5,-0.5"}, "tensor_split"),
        ({"tensor_split": "0,0"}, "tensor_split"),
        ({"tensor_split": "a,b"}, "tensor_split"),
        ({"tensor_split": "1,1", "gpu_layers": 0}, "tensor_split"),
        ({"tensor_split": "1,1", "split_mode": "none"}, "tensor_split"),
        ({"gpu_layers": "many"}, "gpu_layers"),
        ({"gpu_layers": -1}, "gpu_layers"),
        ({"cache_type_k": "q3_k"}, "cache_type_k"),
        ({"cache_type_v": "q8_0", "flash_attention": "off"}, "cache_type_v"),
        ({"flash_attention": "maybe"}, "flash_attention"),
        ({"batch_size": 32, "parallel_slots": 64}, "batch_size"),
        ({"models": "[1]"}, "models"),
        ({"models": "{"}, "models"),
        ({"models": {"a": {"colour": 1}}}, "models.a.colour"),
        ({"models": {"a": {"gpu_layers": -1}}}, "models.a.gpu_layers"),
        ({"models": {"a": {"cache_type_v": "q8_0"}}, "flash_attention": "off"}, "models"),
        ({"prefill_chunk": 4096, "batch_size": 512}, "prefill_chunk"),
        ({"cors_origins": "*"}, "cors_origins"),
        ({"queue_timeout": 0}, "queue_timeout"),
        ({"log_level": "LOUD"}, "log_level"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_honoured_stops_the_start(given: dict[str, Any], key: str) -> None:
    assert refused(**given).startswith(f"{key}: ")


def test_whoever_asks_for_keys_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    assert load({"host": "0.0.0.0", "api_keys_file": tmp_path / "keys"}).host == "0.0.0.0"


def test_keys_are_found_among_systemds_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load({}).api_keys_file is None
    (tmp_path / "api-keys").write_text("")
    assert load({}).api_keys_file == tmp_path / "api-keys"


def test_an_open_door_has_to_be_asked_for() -> None:
    assert load({"host": "0.0.0.0", "insecure_no_auth": True}).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil", False)],
)  # fmt: skip
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load({}).port = 5


@pytest.mark.parametrize(
    ("given", "limit"), [({}, 16), ({"parallel_slots": 8}, 32), ({"queue_size": 0}, 0)]
)
def test_the_queue_grows_with_the_slots(given: dict[str, Any], limit: int) -> None:
    assert load(given).queue_limit == limit


def test_every_setting_says_what_it_is() -> None:
    for key, field in Settings.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key
        if field.annotation in (float, float | None):
            assert "econds" in field.description, f"{key}: in what unit?"


def test_every_setting_is_read_somewhere() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    read = {key for key in Settings.model_fields if re.search(rf"[.]{key}\b", source)}

    assert Settings.model_fields.keys() - read - {"config"} == set()


def test_of_every_setting_it_is_said_what_a_change_needs() -> None:
    assert NEEDS.keys() == Settings.model_fields.keys()


def test_a_mapping_replaces_the_one_below_it_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml(tmp_path, "aliases: {a: one, b: two}\n")
    monkeypatch.setenv("LLM_ALIASES", "{c: three}")

    assert load({"config": config}).aliases == {"c": "three"}
    assert load({"config": config, "aliases": "{}"}).aliases == {}


def test_the_page_of_settings_is_up_to_date() -> None:
    written = (ROOT / "docs/settings.md").read_text()

    assert written.endswith(table()), "python -m service.settings_table writes the table anew"
    assert set(re.findall(r"^\| `(\w+)`", written, re.M)) == set(Settings.model_fields)


def test_further_ports_are_mappings_in_the_file_and_short_elsewhere(tmp_path: Path) -> None:
    text = (
        "listeners:\n- {port: 11434, dialect: ollama}\n- {port: 8000, dialect: vllm, host: '::1'}\n"
    )
    short = load({"listeners": "ollama=11434, vllm=[::1]:8000"})

    assert load({"config": yaml(tmp_path, text)}).listeners == short.listeners
    assert short.listeners == (
        Listener(dialect="ollama", port=11434),
        Listener(dialect="vllm", port=8000, host="::1"),
    )
    assert short.hosts == ("127.0.0.1", "127.0.0.1", "::1")
    assert load({}).listeners == ()


@pytest.mark.parametrize(
    "given", ["ollama", "klingon=11434", "ollama=port", "ollama=70000", [{"dialect": "ollama"}]]
)
def test_a_port_without_a_dialect_or_a_number_is_refused(given: Any) -> None:
    assert refused(listeners=given).startswith("listeners")


def test_a_further_port_is_no_way_round_what_may_be_listened_on() -> None:
    assert "10.0.0.1" in refused(listeners="ollama=10.0.0.1:11434")
    assert load({"listeners": "ollama=10.0.0.1:11434", "insecure_no_auth": True}).listeners


def test_every_dialect_can_have_a_port() -> None:
    words = get_args(Listener.model_fields["dialect"].annotation)

    assert words == NAMES


def test_a_model_has_settings_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "gpu_layers: auto\nthreads: 4\ncache_type_k: q8_0\nmodels:\n"
        "  big:\n    context_size: 8192\n    gpu_layers: 20\n    flash_attention: on\n"
        "  user/small:Q4:\n    gpu_layers: auto\n    mmap: off\n    tensor_split: [1, 2]\n"
    )
    settings = load({"config": path})

    big, small = settings.for_model(["big:latest"]), settings.for_model(["x", "user/small:Q4"])
    assert (big.context_size, big.gpu_layers, big.flash_attention) == (8192, 20, "on")
    assert (small.gpu_layers, small.mmap, small.tensor_split) == (None, False, (1.0, 2.0))
    assert {big.threads, small.threads} == {4}
    assert {big.cache_type_k, small.cache_type_k} == {"q8_0"}
    assert settings.for_model(["other"]).gpu_layers is None


def test_settings_of_models_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MODELS", '{"demo": {"cache_type_k": "q4_0"}}')

    assert load({}).for_model(["demo:latest"]).cache_type_k == "q4_0"
