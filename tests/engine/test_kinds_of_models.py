"""However a model keeps its past: an answer is the same alone, in a batch and after a prefix that
was computed for others. The real engine, real architectures, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.engine.slots import ENDING
from service.engine.wire import Cancel, EngineParams
from service.facts import KVLayout
from service.generation import SamplingParams
from tests.engine.child import Answer, Child, child
from tests.engine.kinds_of_models import hybrid, recurrent, windowed, windowed_hybrid

# Random weights make near ties, so that rounding decides sooner or later: what is wrong is so at once.
GREEDY = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True)
# Each begins like those before it, and most are longer than the window.
FOX = "The quick brown fox jumps over the lazy dog. "
PROMPTS = [FOX * times + str(times) for times in (1, 2, 4, 8)]

Alone = Callable[[str], str]
Kind = tuple[Callable[[Path], Path], KVLayout]
KINDS: list[Kind] = [
    (make, layout)
    for make in (hybrid, recurrent, windowed, windowed_hybrid)
    for layout in ("split", "unified")
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0].__name__}-{kind[1]}")
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def model(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(kind[0](tmp_path_factory.mktemp("kinds") / "model.gguf"))


@pytest.fixture(scope="module")
def engine(kind: Kind, model: str) -> Iterator[Child]:
    with child(EngineParams(model, n_ctx=4096, n_seq=4, kv_layout=kind[1])) as engine:
        yield engine


@pytest.fixture(scope="module")
def alone(model: str) -> Iterator[Alone]:
    """The answer where nothing was computed before."""
    with child(EngineParams(model, n_ctx=2048, n_seq=1, prefix_cache=False)) as single:
        yield lambda prompt: single.ask(prompt, GREEDY).text


def cached(answer: Answer) -> int:
    assert answer.end is not None
    return answer.end.usage.cached_tokens


def together(engine: Child, prompts: list[str], n: int = 1) -> list[list[Answer]]:
    ids = [engine.submit(prompt, GREEDY, n=n) for prompt in prompts]
    answers = engine.collect(*ids, n=n)
    return [answers[id] for id in ids]  # type: ignore[misc]


def test_answers_in_a_batch_are_those_that_each_gets_alone(engine: Child, alone: Alone) -> None:
    expected = [alone(prompt) for prompt in PROMPTS]
    for _ in range(3):
        assert [answers[0].text for answers in together(engine, PROMPTS)] == expected


def test_a_prefix_of_others_changes_no_answer(engine: Child, alone: Alone) -> None:
    for turn in range(3):
        for prompt in PROMPTS:
            assert engine.ask(prompt, GREEDY).text == alone(prompt), turn


def test_a_conversation_goes_on_where_it_was(engine: Child) -> None:
    first = engine.ask(PROMPTS[2], replace(GREEDY, logprobs=0))
    tokens = [entry.chosen.token for event in first.events for entry in event.logprobs]
    prompt = [*PROMPTS[2].encode(), *tokens]
    again = engine.ask(prompt, GREEDY)
    other = engine.ask(prompt, GREEDY)

    assert cached(again) == len(prompt) - 1
    assert again.text == other.text


def test_answers_that_share_a_prompt_are_equal(engine: Child, alone: Alone) -> None:
    (answers,) = together(engine, [PROMPTS[3]], n=3)

    assert [answer.text for answer in answers] == [alone(PROMPTS[3])] * 3


def test_a_cancelled_neighbour_changes_nothing(engine: Child, alone: Alone) -> None:
    victim = engine.submit(FOX * 20, GREEDY)
    ids = [engine.submit(prompt, GREEDY) for prompt in PROMPTS[:2]]
    engine.send(Cancel(victim))
    answers = engine.collect(victim, *ids)

    assert [answers[id][0].text for id in ids] == [alone(prompt) for prompt in PROMPTS[:2]]  # type: ignore[index]


def test_a_turn_that_shows_the_last_answer_in_another_way_goes_on_before_it(
    engine: Child, alone: Alone
) -> None:
    engine.ask(PROMPTS[3], GREEDY)
    turn = PROMPTS[3][:-2] + "8, and no thought is shown. " + FOX
    answer = engine.ask(turn, GREEDY)

    assert cached(answer) >= len(PROMPTS[3]) - ENDING
    assert answer.text == alone(turn)


def test_the_third_that_begins_like_others_does_not_compute_the_beginning(
    engine: Child, alone: Alone
) -> None:
    system = "You are a careful fox. " * 12
    prompts = [system + word * 20 for word in ("One.", "Two.", "Three.", "Four.")]
    answers = [engine.ask(prompt, GREEDY) for prompt in prompts]
    expected = [alone(prompt) for prompt in prompts]

    assert min(cached(answer) for answer in answers[2:]) >= len(system)
    assert [answer.text for answer in answers] == expected
    assert [answers[0].text for answers in together(engine, prompts)] == expected


def test_prompts_that_come_together_compute_their_beginning_once(
    engine: Child, alone: Alone
) -> None:
    engine.ask("?" * 1000, GREEDY)
    prompts = [f"{FOX * 8}{number}" for number in (8, 7, 6)]
    answers = together(engine, prompts)

    assert [answer[0].text for answer in answers] == [alone(prompt) for prompt in prompts]
    assert min(cached(answer[0]) for answer in answers[1:]) >= len(FOX) * 8 - ENDING


def test_who_has_to_make_room_starts_over_and_says_the_same(model: str, alone: Alone) -> None:
    prompts = [f"{number} {FOX * 3}" for number in range(4)]
    # Each needs 150 cells; of 512, where they are shared, not all four can have that many.
    with child(EngineParams(model, n_ctx=512, n_seq=4, kv_layout="unified")) as tight:
        answers = together(tight, prompts)

    assert [answer[0].text for answer in answers] == [alone(prompt) for prompt in prompts]
