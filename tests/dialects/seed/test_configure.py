"""Settings that are changed by HTTP, and what is different for clients then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.settings_needs import NEEDS
from service.settings_sources import load
from tests.dialects.fakes import FakeRuntime

PATH = "/api/dashboard/configure"
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings(state_dir=tmp_path, exporters=False), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def changed(http: TestClient, **patch: Any) -> dict[str, Any]:
    response = http.post(PATH, json=patch)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_it_shows_what_is_in_force_and_whence(http: TestClient, tmp_path: Path) -> None:
    changed(http, queue_size=3, port=9)
    response = http.get(PATH)
    found = response.json()

    assert found["config"]["queue_size"] == 3
    assert found["config"]["port"] == 11436
    assert found["sources"]["queue_size"] == "override"
    assert found["sources"]["state_dir"] == "command line"
    assert found["sources"]["threads"] == "default"
    assert found["needs"] == NEEDS
    assert found["restart"] == {"port": 9}
    assert found["drift"]["restart"] == ["port"]
    assert found["drift"]["file"] is None
    assert (found["version"], found["why"], found["by"]) == (2, "configure", "local")
    assert response.headers["etag"] == f'"{found["hash"]}"'


def test_it_shows_what_engines_say_of_themselves(http: TestClient) -> None:
    (engine,) = http.get(PATH).json()["engines"]

    assert engine["model"] == "demo:latest"
    assert (engine["n_ctx"], engine["n_seq"], engine["n_batch"]) == (8192, 4, 2048)


def test_the_answer_is_as_older_tools_know_it(http: TestClient) -> None:
    body = changed(http, context_size=4096, threads=2, log_level="warning")

    assert body["status"] == "success"
    assert body["message"] == "Configuration applied successfully"
    assert body["applied_config"] == {
        "default_context_size": 4096,
        "threads": 2,
        "log_level": "WARNING",
    }
    assert (body["requires_reload"], body["restart"]) == ([], [])


@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"version": 1}])
def test_nothing_is_no_configuration(http: TestClient, body: dict[str, Any]) -> None:
    response = http.post(PATH, json=body)

    assert response.status_code == 400
    assert response.json() == {"error": "No configuration data provided"}


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ({"threads": 0, "batch_size": 1, "colour": 1}, {"colour"}),
        ({"threads": 0, "batch_size": 1}, {"threads", "batch_size"}),
        ({"threads": "many"}, {"threads"}),
        ({"threads": True}, {"threads"}),
        ({"threads": 1.5}, {"threads"}),
        ({"threads": [1]}, {"threads"}),
        ({"log_level": "LOUD"}, {"log_level"}),
        ({"log_level": 3}, {"log_level"}),
        ({"tensor_split": "0.5,0.4"}, {"tensor_split"}),
        ({"tensor_split": [0.5, "x"]}, {"tensor_split"}),
        ({"tensor_split": "a,b"}, {"tensor_split"}),
        ({"tensor_split": 7}, {"tensor_split"}),
        ({"tensor_split": {"a": 1}}, {"tensor_split"}),
        ({"request_timeout": 0}, {"request_timeout"}),
        ({"config": "/etc/passwd"}, {"config"}),
        ({"host": "0.0.0.0"}, {"host"}),
        ({"models": {"a": {"colour": 1}}}, {"models.a.colour"}),
    ],
)
def test_each_wrong_value_is_named_with_its_reason(
    http: TestClient, body: dict[str, Any], keys: set[str]
) -> None:
    response = http.post(PATH, json=body)

    assert response.status_code == 400, response.text
    assert response.json()["reasons"].keys() == keys
    assert all(key in response.json()["error"] for key in keys)
    assert http.get(PATH).json()["version"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"threads": NaN}', b'"x"', b'{"preset": 1}', b'{"preset": "x"}',
             b'{"dry_run": "yes", "threads": 1}', b'{"version": "a", "threads": 1}']
)  # fmt: skip
def test_what_is_no_change_is_refused(http: TestClient, body: bytes) -> None:
    response = http.post(PATH, content=body)

    assert response.status_code == 400
    assert set(response.json()) == {"error"}


def test_shares_sum_to_one_but_for_rounding(http: TestClient) -> None:
    assert changed(http, tensor_split="0.33,0.33,0.33")["applied_config"] == {
        "tensor_split": [0.33, 0.33, 0.33]
    }


def test_trying_out_changes_nothing(http: TestClient) -> None:
    body = changed(http, queue_size=3, dry_run=True)

    assert (body["message"], body["dry_run"]) == ("Configuration would be applied", True)
    assert body["changed"] == {"queue_size": [None, 3]}
    assert http.get(PATH).json()["version"] == 1


def test_a_stale_etag_is_a_precondition_and_a_stale_version_a_conflict(http: TestClient) -> None:
    etag = http.get(PATH).headers["etag"]
    fresh = http.post(PATH, json={"queue_size": 1}, headers={"If-Match": etag})
    stale = http.post(PATH, json={"queue_size": 2}, headers={"If-Match": etag})

    assert (fresh.status_code, stale.status_code) == (200, 412)
    assert http.post(PATH, json={"queue_size": 2, "version": 1}).status_code == 409
    assert http.post(PATH, json={"queue_size": 2, "version": 2}).status_code == 200
    assert http.post(PATH, json={"queue_size": 4}, headers={"If-Match": "*"}).status_code == 200
    assert changed(http, queue_size=5)["version"] == 5


def test_a_disk_that_takes_nothing_keeps_the_old_value(http: TestClient, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("in the way")
    response = http.post(PATH, json={"queue_size": 3})

    assert response.status_code == 507
    assert "could not be kept" in response.json()["error"]
    assert http.get(PATH).json()["config"]["queue_size"] is None


def test_null_takes_a_change_back(http: TestClient) -> None:
    changed(http, queue_size=3, keep_alive=4)

    assert changed(http, queue_size=None)["changed"] == {"queue_size": [3, None]}
    assert http.get(PATH).json()["overrides"] == {"keep_alive": 4}


def test_there_is_a_way_back(http: TestClient) -> None:
    changed(http, queue_size=3)
    changed(http, queue_size=4)
    listed = http.get(f"{PATH}/versions").json()["versions"]
    back = http.post(f"{PATH}/rollback", json={"version": 2})

    assert [each["version"] for each in listed] == [3, 2, 1]
    assert [each["in_force"] for each in listed] == [True, False, False]
    assert back.json()["changed"] == {"queue_size": [4, 3]}
    assert http.get(PATH).json()["why"] == "rollback:2"


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"version": "x"}, 400), ({"version": 99}, 404), ({"version": 1, "x": 1}, 400)],
)
def test_a_way_back_that_is_none_is_refused(
    http: TestClient, body: dict[str, Any], status: int
) -> None:
    assert http.post(f"{PATH}/rollback", json=body).status_code == status


def test_what_is_exported_can_be_a_file_of_settings(http: TestClient, tmp_path: Path) -> None:
    changed(http, queue_size=3, tensor_split=[0.5, 0.5], models={"a": {"context_size": 4096}})
    text = http.get(f"{PATH}/export").text
    file = tmp_path / "exported.yaml"
    file.write_text(text)
    settings = load({"config": file})

    assert (settings.queue_size, settings.tensor_split) == (3, (0.5, 0.5))
    assert settings.models["a"].model_dump(exclude_unset=True) == {"context_size": 4096}
    assert settings.state_dir == tmp_path


def test_what_was_exported_is_imported_in_place_of_all_changes(http: TestClient) -> None:
    changed(http, queue_size=3)
    text = http.get(f"{PATH}/export").text
    changed(http, queue_size=7, keep_alive=1)
    back = http.post(f"{PATH}/import", content=text)

    assert back.status_code == 200
    assert http.get(PATH).json()["overrides"] == {"queue_size": 3}
    assert http.get(PATH).json()["why"] == "import"


def test_what_has_no_meaning_here_is_not_imported_and_said(http: TestClient) -> None:
    back = http.post(f"{PATH}/import", content="queue_size: 3\nllama_cpp_path: /opt/llama.cpp\n")

    assert back.status_code == 200, back.text
    assert [remark.split()[0] for remark in back.json()["remarks"]] == ["llama_cpp_path"]
    assert http.get(PATH).json()["overrides"] == {"queue_size": 3}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a list",
        b"a: [",
        b"colour: 1",
        b"queue_size: -1",
        b"queue_size: .inf",
        b"\xff\xfe",
        b"[" * 30_000,
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        b"aliases: {1: {2: 3}}",
        b"!!python/object/apply:os.system ['true']",
    ],
)
def test_what_cannot_be_a_file_of_settings_is_not_imported(http: TestClient, text: bytes) -> None:
    response = http.post(f"{PATH}/import", content=text)

    assert response.status_code == 400, response.text
    assert http.get(PATH).json()["version"] == 1


def test_a_file_that_is_too_long_is_not_read(http: TestClient) -> None:
    assert http.post(f"{PATH}/import", content=b"#" * 70_000).status_code == 413


def test_a_preset_is_put_in_force_with_what_was_lowered_and_why(http: TestClient) -> None:
    body = changed(http, preset="conservative", request_timeout=7)

    assert body["applied_config"]["request_timeout"] == 7
    assert body["applied_config"]["log_level"] == "WARNING"
    assert body["lowered"].keys() >= {"gpu_layers"}
    assert http.get(PATH).json()["preset"] == "conservative"
    assert 'preset="conservative"' in http.get("/metrics").text


def test_changes_are_in_the_audit_log(http: TestClient, tmp_path: Path) -> None:
    changed(http, queue_size=3)
    http.post(PATH, json={"queue_size": 4, "version": 1})
    http.__exit__()
    lines = (tmp_path / "audit.log").read_text().splitlines()

    assert '"action":"configure"' in lines[-2]
    assert '"queue_size"' in lines[-2]
    assert "stale_version" in lines[-1]


# What each key that needs nothing does at once: before → after.
def host(http: TestClient) -> object:
    return http.get("/api/version", headers={"Host": "llm.example"}).status_code


def origin(http: TestClient) -> object:
    answer = http.get("/api/version", headers={"Origin": "https://chat.example"})
    return answer.headers.get("access-control-allow-origin")


def long_body(http: TestClient) -> object:
    body = {**CHAT, "user": "x" * 3000}
    return http.post("/v1/chat/completions", json=body).status_code


def version(http: TestClient) -> object:
    return http.get("/api/version").json()["version"]


def sleeping(http: TestClient) -> object:
    return http.get("/is_sleeping").status_code


def vllm_names(http: TestClient) -> object:
    return "vllm:num_requests_running" in http.get("/metrics").text


def gauge(name: str) -> Callable[[TestClient], object]:
    def read(http: TestClient) -> object:
        lines = http.get("/metrics").text.splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")]

    return read


@pytest.mark.parametrize(
    ("patch", "seen", "before", "after"),
    [
        ({"allowed_hosts": ["llm.example"]}, host, 421, 200),
        ({"cors_origins": ["https://chat.example"]}, origin, None, "https://chat.example"),
        ({"max_body_bytes": 2048}, long_body, 200, 413),
        ({"ollama_compat_version": "9.9.9"}, version, "0.33.2", "9.9.9"),
        ({"dev_routes": True}, sleeping, 404, 200),
        ({"vllm_metric_names": True}, vllm_names, False, True),
        ({"request_timeout": 7}, gauge("llm_config_request_timeout_seconds"), [1800.0], [7.0]),
        ({"threads": 3}, gauge("llm_config_threads"), [], [3.0]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_needs_nothing_is_in_force_for_the_next_request(
    http: TestClient,
    patch: dict[str, Any],
    seen: Callable[[TestClient], object],
    before: object,
    after: object,
) -> None:
    (key,) = patch
    assert NEEDS[key] == "nothing"
    assert seen(http) == before
    changed(http, **patch)
    assert seen(http) == after
    changed(http, **{key: None})
    assert seen(http) == before


def test_yaml_has_no_place_for_null(http: TestClient) -> None:
    changed(http, gpu_layers="auto")

    assert None not in yaml.safe_load(http.get(f"{PATH}/export").text).values()
