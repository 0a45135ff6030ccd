"""The demo model on the real llama.cpp, in a real engine process."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.engine.wire import (
    Cancel,
    EngineParams,
    Load,
    LoadFailed,
    Ready,
    Refused,
    Report,
    Step,
)
from service.events import Finished, FinishReason, TokenEvent
from service.facts import KVLayout
from service.generation import Grammar, SamplingParams, Thoughts
from tests.engine.child import DEMO, GREEDY, Child, chat, child
from tests.full_size import FULL_SIZE

LONG = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
QUESTIONS = [f"What is {a} + {b}?" for a, b in zip(range(10, 34, 3), range(50, 74, 3), strict=True)]


@pytest.fixture(scope="module", params=["split", "unified"])
def engine(request: pytest.FixtureRequest) -> Iterator[Child]:
    with child(EngineParams(str(DEMO), n_ctx=8192, n_seq=8, kv_layout=request.param)) as engine:
        yield engine


def test_a_batch_of_eight_answers_as_each_does_alone(engine: Child) -> None:
    alone = [engine.ask(chat(question)).text for question in QUESTIONS]
    ids = [engine.submit(chat(question)) for question in QUESTIONS]
    answers = engine.collect(*ids)

    assert [answers[id][0].text for id in ids] == alone  # type: ignore[index]


def test_a_shared_prefix_is_reused_without_changing_the_answer(engine: Child) -> None:
    system = "<|im_start|>system\n" + "You are a careful assistant. " * 20 + "<|im_end|>\n"
    fresh = engine.ask(system + chat("What is 40 + 2?"))
    again = engine.ask(system + chat("What is 40 + 2?"))
    other = engine.ask(system + chat("Count from 1 to 9"))

    assert again.text == fresh.text
    assert again.end is not None
    assert other.end is not None
    assert again.end.usage.cached_tokens == again.end.usage.prompt_tokens - 1
    assert other.end.usage.cached_tokens > 100


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(engine: Child) -> None:
    def sampled(seed: int) -> str:
        return engine.ask("Once", SamplingParams(seed=seed, max_tokens=30, ignore_eos=True)).text

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1


def test_n_answers_are_sampled_apart_from_one_prefill(engine: Child) -> None:
    sampling = SamplingParams(seed=5, max_tokens=20, ignore_eos=True)
    id = engine.submit("Once upon a time there was one", sampling, n=4)
    answers = engine.collect(id, n=4)[id]

    assert isinstance(answers, list)
    assert len({answer.text for answer in answers}) > 1
    assert [a.end.seed for a in answers if a.end] == [5, 6, 7, 8]


def test_ignore_eos_runs_to_the_budget(engine: Child) -> None:
    answer = engine.ask(chat("Hello!"), SamplingParams(max_tokens=200, ignore_eos=True, seed=1))

    assert answer.end is not None
    assert answer.end.usage.generation_tokens == 200


def test_min_tokens_holds_the_end_back(engine: Child) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=120, min_tokens=80)
    answer = engine.ask(chat("Hello!"), sampling)

    assert answer.end is not None
    assert answer.end.usage.generation_tokens >= 80


def test_a_grammar_holds_every_token(engine: Child) -> None:
    grammar = Grammar('root ::= "{\\"answer\\": " [1-9] [0-9] "}"')
    for seed in range(10):
        sampling = SamplingParams(seed=seed, temperature=1.5, max_tokens=40)
        answer = engine.ask(chat("What is 40 + 2?"), sampling, grammar=grammar)

        assert 10 <= json.loads(answer.text)["answer"] <= 99
        assert answer.end is not None
        assert answer.end.reason is FinishReason.STOP


def test_a_complete_grammar_ends_the_answer_even_where_the_end_is_banned(engine: Child) -> None:
    sampling = SamplingParams(max_tokens=40, ignore_eos=True)
    answer = engine.ask("x", sampling, grammar=Grammar('root ::= "ab"'))

    assert answer.text == "ab"
    assert answer.end is not None
    assert answer.end.reason is FinishReason.STOP


def test_thoughts_are_free_and_what_follows_them_is_held(engine: Child) -> None:
    grammar = Grammar('root ::= "[" [0-9]+ "]"', after="</think>", opener="<think>")
    thinking = engine.ask(
        chat("What is 40 + 2?") + "<think>",
        SamplingParams(temperature=0, max_tokens=200),
        grammar=Grammar('root ::= "[" [0-9] [0-9] "]"', after="</think>"),
    )
    plain = engine.ask(chat("Hello!", think=False), GREEDY, grammar=grammar)

    head, _, tail = thinking.text.partition("</think>")
    assert head
    assert re.fullmatch(r"\[\d\d\]", tail)
    assert plain.text.startswith("[")


@pytest.mark.parametrize(
    "text",
    ['root ::= "a', "nonsense", "root ::= missing"],
)
def test_a_grammar_that_does_not_parse_is_refused(engine: Child, text: str) -> None:
    id = engine.submit("x", grammar=Grammar(text))

    refused = engine.collect(id)[id]
    assert isinstance(refused, Refused)
    assert refused.param == "grammar"


def test_every_sampler_can_be_used(engine: Child) -> None:
    everything = [
        SamplingParams(seed=1, max_tokens=8, top_k=5, top_p=0.9, min_p=0.05, typical_p=0.9),
        SamplingParams(seed=1, max_tokens=8, repeat_penalty=1.3, repeat_last_n=-1),
        SamplingParams(seed=1, max_tokens=8, presence_penalty=1.0, frequency_penalty=1.0),
        SamplingParams(seed=1, max_tokens=8, dry_multiplier=0.8, xtc_probability=0.5),
        SamplingParams(seed=1, max_tokens=8, mirostat=1),
        SamplingParams(seed=1, max_tokens=8, mirostat=2),
        SamplingParams(seed=1, max_tokens=8, dynatemp_range=0.5, top_n_sigma=1.0),
    ]
    for sampling in everything:
        assert engine.ask(chat("Hello!"), sampling).end is not None


def test_a_bias_bans_and_forces(engine: Child) -> None:
    free = engine.ask(chat("Hello!"), SamplingParams(temperature=0, max_tokens=1, logprobs=0))
    first = free.events[0].logprobs[0].chosen.token
    banned = SamplingParams(temperature=0, max_tokens=1, logprobs=0, logit_bias={first: -100.0})

    assert engine.ask(chat("Hello!"), banned).events[0].logprobs[0].chosen.token != first
    for token in (100, 200):
        forced = SamplingParams(temperature=0, max_tokens=1, logprobs=0, logit_bias={token: 100.0})
        assert engine.ask(chat("Hello!"), forced).events[0].logprobs[0].chosen.token == token


def test_a_repeated_token_is_penalised(engine: Child) -> None:
    sampling = SamplingParams(
        temperature=0, max_tokens=40, ignore_eos=True, frequency_penalty=2.0, token_ids=True
    )
    answer = engine.ask(chat("Repeat after me: one one one one"), sampling)
    tokens = [id for event in answer.events for id in event.ids]

    assert len(set(tokens)) > 20


def test_logprobs_are_of_the_raw_distribution_and_sorted(engine: Child) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=5, logprobs=5)
    for event in engine.ask(chat("Hello!"), sampling).events:
        for entry in event.logprobs:
            values = [candidate.logprob for candidate in entry.top]
            assert values == sorted(values, reverse=True)
            assert entry.chosen.logprob == values[0] <= 0


def test_a_prompts_logprobs_agree_with_those_of_generating_it(engine: Child) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=12, logprobs=0, token_ids=True)
    generated = engine.ask("Once", sampling)
    tokens = [id for event in generated.events for id in event.ids]
    prompt = [
        entry.chosen.token
        for entry in engine.ask(
            "Once", SamplingParams(max_tokens=0, prompt_logprobs=0)
        ).prompt_logprobs.tokens  # type: ignore[union-attr]
        if entry
    ]
    scored = engine.ask("Once" + generated.text, SamplingParams(max_tokens=0, prompt_logprobs=0))
    assert scored.prompt_logprobs is not None
    scores = [entry for entry in scored.prompt_logprobs.tokens if entry][len(prompt) :]
    expected = [entry for event in generated.events for entry in event.logprobs][: len(scores)]

    assert [entry.chosen.token for entry in scores] == tokens[: len(scores)]
    for score, original in zip(scores, expected, strict=True):
        assert score.chosen.logprob == pytest.approx(original.chosen.logprob, abs=0.05)


def test_any_utf8_survives_the_tokenizer(engine: Child) -> None:
    text = "🦙 日本語 naïve \u2028 \x01 ﷽ é"
    answer = engine.ask(text, SamplingParams(max_tokens=0, prompt_logprobs=0))
    assert answer.prompt_logprobs is not None
    pieces = [entry.chosen.piece for entry in answer.prompt_logprobs.tokens if entry]

    assert text.encode().endswith(b"".join(pieces))


def test_streams_hold_no_broken_code_point(engine: Child) -> None:
    """A bias towards the bytes of an emoji makes the model speak in pieces of code points."""
    prompt = "🦙🦙 日本"
    scored = engine.ask(prompt, SamplingParams(max_tokens=0, prompt_logprobs=0)).prompt_logprobs
    assert scored is not None
    bias = {entry.chosen.token: 40.0 for entry in scored.tokens if entry}
    for seed in range(20):
        sampling = SamplingParams(seed=seed, max_tokens=40, logit_bias=bias, logprobs=0)
        answer = engine.ask(prompt, sampling)
        pieces = [e.chosen.piece for event in answer.events for e in event.logprobs]

        assert answer.text == b"".join(pieces).decode("utf-8", "replace")


def test_cancelling_a_neighbour_changes_nothing(engine: Child) -> None:
    """Greedily: a batch of another size sums in another order, which may tip a close draw."""
    draw = random.Random(3)
    for _ in range(200 if FULL_SIZE else 20):
        sampling = SamplingParams(temperature=0, max_tokens=60)
        prompt = chat(f"Count from {draw.randint(1, 9)} to 20")
        alone = engine.ask(prompt, sampling).text
        kept = engine.submit(prompt, sampling)
        victim = engine.submit(chat("Say something long"), SamplingParams(ignore_eos=True))
        ended: set[int] = set()
        text, seen = "", 0
        while ended != {kept, victim}:
            for report in engine.receive():
                if not isinstance(report, Step):
                    continue
                for id, event in report.outputs:
                    if isinstance(event, TokenEvent):
                        seen += id == victim
                        text += event.text if id == kept else ""
                    elif isinstance(event, Finished):
                        ended.add(id)
            if seen > draw.randint(0, 10):
                engine.send(Cancel(victim))
                seen = -1000

        assert text == alone


@pytest.mark.parametrize("layout", ["split", "unified"])
def test_without_the_prefix_cache_slots_are_used_again_and_no_cells_are_lost(
    layout: KVLayout,
) -> None:
    """More answers than slots, whose cells together are more than there are."""
    params = EngineParams(str(DEMO), n_ctx=512, n_seq=2, kv_layout=layout, prefix_cache=False)
    with child(params) as engine:
        answers = [engine.ask(chat("What is 40 + 2?"), LONG) for _ in range(8)]

    assert len({answer.text for answer in answers}) == 1
    used = [answer.end.usage for answer in answers if answer.end]
    assert [usage.cached_tokens for usage in used] == [0] * 8
    assert sum(usage.prompt_tokens + usage.generation_tokens for usage in used) > 512


@pytest.mark.parametrize("layout", ["split", "unified"])
def test_a_full_context_ends_an_answer(layout: KVLayout) -> None:
    with child(EngineParams(str(DEMO), n_ctx=512, n_seq=1, kv_layout=layout)) as engine:
        limit = engine.facts.n_ctx_seq
        answer = engine.ask([100] * (limit - 5), SamplingParams(ignore_eos=True))

    assert answer.end is not None
    assert answer.end.reason is FinishReason.LENGTH
    assert answer.end.usage.generation_tokens == 5


def test_sequences_that_outgrow_a_shared_cache_all_get_their_answers() -> None:
    prompt = chat("Count from 1 to 60")
    sampling = SamplingParams(temperature=0, max_tokens=300, ignore_eos=True)
    with child(EngineParams(str(DEMO), n_ctx=1024, n_seq=4, kv_layout="unified")) as engine:
        alone = engine.ask(prompt + "1", sampling).text
        ids = [engine.submit(prompt + "1", sampling) for _ in range(4)]
        answers = engine.collect(*ids)

    assert all(answers[id][0].text == alone for id in ids)  # type: ignore[index]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda path: path.unlink(), "not_found"),
        (lambda path: path.write_bytes(b"GGUF"), "bad_file"),
        (lambda path: path.write_bytes(b""), "bad_file"),
        (lambda path: path.write_bytes(DEMO.read_bytes()[:4096]), "bad_file"),
        (
            lambda path: path.write_bytes(DEMO.read_bytes().replace(b"llama", b"lamma")),
            "unsupported",
        ),
    ],
    ids=["gone", "magic only", "empty", "truncated", "unknown architecture"],
)
def test_a_file_that_cannot_be_loaded_is_reported_with_its_kind(
    tmp_path: Path, spoil: object, kind: str
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(DEMO, path)
    spoil(path)  # type: ignore[operator]
    with child() as engine:
        failed = engine.load(EngineParams(str(path)))

        assert isinstance(failed, LoadFailed)
        assert failed.kind == kind
        assert engine.process.wait(5) == 1


def test_the_engine_ends_with_its_socket() -> None:
    with child(EngineParams(str(DEMO))) as engine:
        engine.submit("x", SamplingParams(ignore_eos=True))
        engine._socket.close()

        assert engine.process.wait(5) == 0


def test_a_first_message_that_is_not_load_ends_the_engine() -> None:
    with child() as engine:
        engine.send(Cancel(1))

        assert engine.process.wait(10) != 0


def test_progress_is_told_while_loading() -> None:
    with child() as engine:
        engine.send(Load(EngineParams(str(DEMO))))
        reports: list[Report] = []
        while not any(isinstance(report, Ready) for report in reports):
            reports += engine.receive()

    assert len(reports) > 1


def test_a_grammar_holds_the_rest_of_what_the_prompt_has_begun(engine: Child) -> None:
    text = 'root ::= "{\\"sum\\": " [0-9]+ "}"'
    begun = Grammar(text, begun='{"sum": 1')
    prompt = chat("What is 7 plus 5?", think=False) + begun.begun
    answer = engine.ask(prompt, grammar=begun)
    id = engine.submit(prompt, grammar=Grammar(text, begun="It is "))

    assert re.fullmatch(r"[0-9]*}", answer.text)
    refused = engine.collect(id)[id]
    assert isinstance(refused, Refused)
    assert refused.param == "messages"


def test_a_mark_that_is_a_control_token_is_seen_by_the_grammar_that_waits_for_it(
    engine: Child,
) -> None:
    grammar = Grammar('root ::= "ok"', after="<|im_start|>")
    # The only control token that it may write, and would write for ever.
    biased = SamplingParams(temperature=0, max_tokens=16, logit_bias={1: 100.0})

    assert engine.ask(chat("What is 7 plus 5?"), biased, grammar=grammar).text == "ok"


@pytest.mark.parametrize("budget", [0, 5])
def test_at_their_budget_thoughts_are_ended_and_the_model_answers(
    engine: Child, budget: int
) -> None:
    limited = replace(GREEDY, thoughts=Thoughts(budget, "<think>", "</think>"))
    whole = engine.ask(chat("What is 7 plus 5?"))
    answer = engine.ask(chat("What is 7 plus 5?"), limited)
    thoughts, mark, rest = answer.text.removeprefix("<think>").partition("</think>")

    assert whole.text.startswith("<think>" + thoughts)
    assert mark
    assert rest.strip().endswith("12.")
    assert len(whole.text) > len(answer.text)


def test_thoughts_that_the_prompt_opened_have_the_same_budget(engine: Child) -> None:
    limited = replace(GREEDY, thoughts=Thoughts(4, "<think>", "</think>", inside=True))
    answer = engine.ask(chat("What is 7 plus 5?") + "<think>", limited)
    free = engine.ask(chat("What is 7 plus 5?", think=False), limited)

    assert "</think>" in answer.text
    assert len(answer.text.partition("</think>")[0]) < 16
    assert free.text


def test_a_budget_and_a_grammar_hold_together(engine: Child) -> None:
    limited = replace(GREEDY, thoughts=Thoughts(3, "<think>", "</think>"))
    grammar = Grammar('root ::= "so be it"', after="</think>", opener="<think>")
    answer = engine.ask(chat("What is 7 plus 5?"), limited, grammar=grammar)

    assert answer.text.rpartition("</think>")[2].strip() == "so be it"


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(max_tokens=48, seed=1)])
def test_bad_words_are_never_written(engine: Child, sampling: SamplingParams) -> None:
    usual = engine.ask(chat("What is 7 plus 5?", think=False), sampling).text
    words = tuple(word for word in re.findall(r"[a-z0-9]+", usual) if len(word) > 1)[:2]
    banned = replace(sampling, bad_words=words)
    for _ in range(3):
        other = engine.ask(chat("What is 7 plus 5?", think=False), banned).text
        assert not [word for word in words if f" {word} " in f" {other} "]
