"""LoRA adapters on the demo model and the real llama.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest
from msgspec.structs import replace

from service.engine.wire import EngineParams, LoadFailed
from service.facts import Adapter, AdapterFacts
from service.generation import Selection
from tests.catalog.gguf_files import with_weights
from tests.engine.adapters import ADAPTER, adapter, matrices
from tests.engine.child import DEMO, GREEDY, Child, chat, child

QUESTION = chat("What is 40 + 2?")
# With these and these adapters no two tokens are nearly as likely, so that nothing hangs on how a
# batch was put together: the best is ahead by 0.7 at least.
SELECTIONS: list[Selection] = [(), ((0, 1.0),), ((1, 1.0),), ((0, 0.7), (1, 0.7)), ((0, 0.6),)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    more = {"adapter.lora.task_name": "sums", "adapter.lora.prompt_prefix": "Sum: "}
    adapter(folder / "a.gguf", 13, more)
    adapter(folder / "b.gguf", 20)
    return folder


@pytest.fixture(scope="module", params=["split", "unified"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Child]:
    adapters = (Adapter(str(folder / "a.gguf"), "a"), Adapter(str(folder / "b.gguf"), "b", 0.0))
    params = EngineParams(
        str(DEMO), n_ctx=8192, n_seq=8, kv_layout=request.param, adapters=adapters
    )
    with child(params) as engine:
        yield engine


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: Any) -> None:
    """llama.cpp says much."""


def by_hand(files: list[tuple[Path, float]], prompt: str, length: int) -> list[int]:
    """Greedy tokens, one decode after the other, by nothing but llama.cpp's own functions."""
    llama.llama_log_set(_silent, None)
    model = llama.llama_model_load_from_file(str(DEMO).encode(), llama.llama_model_default_params())
    vocab = llama.llama_model_get_vocab(model)
    loaded = [llama.llama_adapter_lora_init(model, str(path).encode()) for path, _ in files]
    settings = llama.llama_context_default_params()
    settings.n_ctx = 1024
    context = llama.llama_init_from_model(model, settings)
    llama.llama_set_adapters_lora(
        context,
        (llama.llama_adapter_lora_p_ctypes * len(files))(*loaded),
        len(files),
        (ctypes.c_float * len(files))(*(scale for _, scale in files)),
    )
    buffer = (llama.llama_token * 512)()
    text = prompt.encode()
    count = llama.llama_tokenize(vocab, text, len(text), buffer, 512, True, True)
    batch, tokens = llama.llama_batch_get_one(buffer, count), []
    for _ in range(length):
        assert llama.llama_decode(context, batch) == 0
        logits = llama.llama_get_logits_ith(context, -1)
        array = np.ctypeslib.as_array(logits, (llama.llama_vocab_n_tokens(vocab),))
        tokens.append(int(array.argmax()))
        if llama.llama_vocab_is_eog(vocab, tokens[-1]):
            break
        batch = llama.llama_batch_get_one((llama.llama_token * 1)(tokens[-1]), 1)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return tokens


def test_with_scale_0_an_adapter_changes_nothing(engine: Child) -> None:
    with child(EngineParams(str(DEMO), n_ctx=1024)) as plain:
        base = plain.ask(QUESTION).text

    assert engine.ask(QUESTION).text == base
    assert engine.ask(QUESTION, adapters=((0, 0.0), (1, 0.0))).text == base
    assert engine.ask(QUESTION, adapters=((0, 1.0),)).text != base


@pytest.mark.parametrize("selection", SELECTIONS)
def test_an_answer_is_what_llama_cpp_gives_with_the_same_adapters(
    engine: Child, folder: Path, selection: Selection
) -> None:
    files = [(folder / f"{'ab'[number]}.gguf", scale) for number, scale in selection]
    answer = engine.ask(QUESTION, replace(GREEDY, token_ids=True), adapters=selection)

    assert [id for event in answer.events for id in event.ids] == by_hand(files, QUESTION, 48)


def test_selections_that_run_at_once_each_get_what_they_get_alone(engine: Child) -> None:
    alone = [engine.ask(QUESTION, adapters=selection).text for selection in SELECTIONS]
    ids = [engine.submit(QUESTION, adapters=selection) for selection in SELECTIONS]
    together = engine.collect(*ids)

    assert len(set(alone)) == len(SELECTIONS)
    assert [together[id][0].text for id in ids] == alone  # type: ignore[index]


def test_under_load_mixed_selections_all_end_and_share_no_prefix(engine: Child) -> None:
    prompts = [chat(f"What is {number} + 2?") for number in range(10, 18)]
    wanted = [(prompt, selection) for prompt in prompts for selection in SELECTIONS]
    ids = [engine.submit(prompt, adapters=selection) for prompt, selection in wanted]
    answers = engine.collect(*ids)
    base = [engine.ask(prompt).text for prompt in prompts]

    assert all(answers[id][0].end.error is None for id in ids)  # type: ignore[index,union-attr]
    plain = ids[:: len(SELECTIONS)]
    assert [answers[id][0].text for id in plain] == base  # type: ignore[index]


def test_vectors_are_made_with_adapters_too(engine: Child) -> None:
    (plain,) = engine.embed("two cats")
    (adapted,) = engine.embed("two cats", adapters=((0, 1.0),))
    (again,) = engine.embed("two cats")

    assert np.abs(plain - again).max() < 1e-5
    assert np.abs(plain - adapted).max() > 1e-2


def test_what_is_loaded_is_told(engine: Child) -> None:
    assert engine.facts.adapters == (AdapterFacts("a", "sums", "Sum: "), AdapterFacts("b"))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"general.architecture": "qwen2"}, "arch mismatch"),
    "no adapter": ({"general.type": "model"}, "expect general.type to be 'adapter'"),
    "another kind": ({"adapter.type": "ia3"}, "expect adapter.type to be 'lora'"),
    "no finite alpha": ({"adapter.lora.alpha": float("nan")}, "its alpha is nan"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_file_that_is_no_adapter_of_the_model_is_reported(tmp_path: Path, bad: str) -> None:
    metadata, reason = BAD[bad]
    report = loading(adapter(tmp_path / "bad.gguf", metadata=metadata))

    assert reason in report.message


def test_a_file_that_ends_too_early_is_reported(tmp_path: Path) -> None:
    report = loading(adapter(tmp_path / "bad.gguf", cut=9000))

    assert "corrupted or incomplete" in report.message


def test_weights_of_another_shape_are_reported(tmp_path: Path) -> None:
    wrong = {name: array[:, :2] for name, array in matrices(1).items()}
    (tmp_path / "bad.gguf").write_bytes(with_weights(ADAPTER, wrong))
    report = loading(tmp_path / "bad.gguf")

    assert "incorrect shape" in report.message


def loading(path: Path) -> LoadFailed:
    with child() as engine:
        report = engine.load(EngineParams(str(DEMO), adapters=(Adapter(str(path), "bad"),)))
    assert isinstance(report, LoadFailed)
    assert report.kind == "bad_file"
    return report
