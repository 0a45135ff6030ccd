"""The pytest plugin under which llama.cpp's tests run: their server is ours, their expectations
are theirs, less the table of deviations.

A test that fails and is not in the table fails; so does one that is in the table and passes.
"""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tools.llama_server_tests import deviations
from tools.llama_server_tests.deviations import OTHER_WORDS, Deviation
from tools.llama_server_tests.servers import (
    BUILD,
    PREFIX,
    NeedsDownload,
    Running,
    names_in,
    standin,
    wanted,
)
from tools.llama_server_tests.standins import made

TESTS = Path(os.environ["LLAMA_SERVER_TESTS"])
REFERENCE = os.environ.get("LLAMA_SERVER_BIN_PATH")
RAISES: dict[str, type[Exception]] = {"needs a download": NeedsDownload}
GENERATES = ("completion", "completions", "infill", "responses", "messages", "predict")
LIMITS = ("n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens")

DEVIATION = pytest.StashKey[Deviation]()
tally: Counter[str] = Counter()
running = Running(TESTS.parents[2] / "models")
current_names: tuple[str, ...] = ()
excused: list[str] = []
excusing = False


def unavailable(url: str, *_: Any, **__: Any) -> str:
    raise NeedsDownload(url)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    sys.path.insert(0, str(TESTS))
    wget = types.ModuleType("wget")
    wget.download = unavailable  # type: ignore[attr-defined]
    sys.modules["wget"] = wget
    import utils  # type: ignore[import-not-found]

    Path(utils.TMP_DIR).mkdir(exist_ok=True)
    utils.download_file = unavailable
    utils.match_regex = excusable(utils.match_regex)
    utils.ServerPreset.load_all = staticmethod(lambda: None)
    process = utils.ServerProcess
    if REFERENCE:
        process.start = reference(process.start)
        return
    process.start = start
    process.stop = lambda self: utils.server_instances.discard(self)
    process.make_url = lambda self, path, host=None: (
        f"http://127.0.0.1:{self.server_port}{PREFIX}{path}"
    )
    for name in ("make_request", "make_stream_request"):
        setattr(process, name, with_defaults(getattr(process, name)))


def start(self: Any, timeout_seconds: int = 0) -> None:
    self.server_port = running.serve(wanted(self, current_names, TESTS))
    self.ready = True


def reference(start: Any) -> Any:
    """llama-server itself, on the same models: what it does not pass either says nothing of us."""

    def started(self: Any, timeout_seconds: int = 60) -> None:
        if self.model_hf_repo or self.model_file:
            model = standin(self, TESTS)
            self.model_file = str(made(model, running.vocabularies, BUILD / "standins"))
            self.model_hf_repo = self.model_hf_file = None
        start(self, timeout_seconds)

    return started


def with_defaults(send: Any) -> Any:
    """llama-server's command line has defaults for what requests do not say; here requests do."""

    def sent(self: Any, method: str, path: str, data: Any = None, *rest: Any, **named: Any) -> Any:
        if isinstance(data, dict) and path.rpartition("/")[2] in GENERATES:
            data = {"seed": self.seed, "temperature": self.temperature, **data}
            if self.n_predict and self.n_predict > 0 and not any(key in data for key in LIMITS):
                data["max_output_tokens" if "responses" in path else "max_tokens"] = self.n_predict
        return send(self, method, path, data, *rest, **named)

    return sent


def excusable(match_regex: Any) -> Any:
    """Words of another model are excused where the table says so, and only there."""

    def matched(regex: str, text: str) -> bool:
        if match_regex(regex, text):
            return True
        if excusing and text:
            excused.append(regex)
            return True
        return False

    return matched


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table = deviations.load()
    met: set[str] = set()
    for item in items:
        test = item.nodeid.removeprefix("unit/")
        met.update(deviations.names_of(test))
        if test in table.figures and isinstance(item, pytest.Function):
            item.callspec.params.update(table.figures[test])
        if found := table.of(test):
            item.stash[DEVIATION] = found
            mark(item, found)
    # Only a whole file shows what in the table is no test.
    if not any("::" in argument for argument in config.args):
        known = [*table.deviations, *table.figures]
        gone = [name for name in known if name.partition("::")[0] in met and name not in met]
        if gone:
            raise pytest.UsageError(f"no such tests: {', '.join(gone)}")


def mark(item: pytest.Item, found: Deviation) -> None:
    if REFERENCE and found.kind == "not served":
        item.add_marker(pytest.mark.skip(reason=found.reason))
    elif found.kind != OTHER_WORDS and not (REFERENCE and found.kind == "deliberate"):
        raises = RAISES.get(found.kind)
        item.add_marker(pytest.mark.xfail(strict=True, reason=found.reason, raises=raises))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    global current_names, excusing
    assert isinstance(item, pytest.Function)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    current_names = names_in(inspect.getsource(item.function), parameters)
    found = item.stash.get(DEVIATION, None)
    excusing = found is not None and found.kind == OTHER_WORDS
    excused.clear()
    if item.nodeid.removeprefix("unit/") in deviations.load().figures:
        excused.append("figures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.when == "call" and report.passed and excusing and not excused:
        report.outcome = "failed"
        report.longrepr = "It is in the table for its words, and none had to be excused."
    if kind := kind_of(item, report):
        tally[kind] += 1
    return report


def kind_of(item: pytest.Item, report: pytest.TestReport) -> str | None:
    """What a test counts as, said once for each: None for the phases that do not decide."""
    found = item.stash.get(DEVIATION, None)
    if hasattr(report, "wasxfail") and found is not None:
        return found.kind
    if report.failed:
        return "failed"
    if report.skipped:
        return "skipped by the suite"
    if report.when == "call":
        return found.kind if found is not None and found.kind == OTHER_WORDS else "passed"
    return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("llama.cpp's server tests")
    for kind, count in tally.most_common():
        terminalreporter.write_line(f"{count:5}  {kind}")
    terminalreporter.write_line(f"{tally.total():5}  in all")


def pytest_unconfigure() -> None:
    running.stop()
