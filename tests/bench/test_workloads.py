from __future__ import annotations

import statistics

from bench.workloads import WORDS, Closed, Distinct, LongPrompt, MultiTurn, Poisson, SharedPrefix


def contents(workload: Distinct | SharedPrefix, seed: object) -> list[tuple[str, ...]]:
    return [
        tuple(message["content"] for message in request.prompt if isinstance(message, dict))
        for request in workload.plan(seed)
    ]


def test_a_seed_decides_everything() -> None:
    for workload in (Distinct(Closed(2), 4), SharedPrefix(Closed(2), 4), LongPrompt(), MultiTurn()):
        assert workload.plan("a 1") == workload.plan("a 1")
        assert workload.plan("a 1") != workload.plan("a 2")


def test_distinct_prompts_share_no_beginning() -> None:
    prompts = [text.split() for (text,) in contents(Distinct(Closed(8), 8), 0)]

    assert [len(words) for words in prompts] == [128] * 8
    assert len({tuple(words[:4]) for words in prompts}) == 8


def test_shared_prompts_share_the_system_message_only() -> None:
    prompts = contents(SharedPrefix(Closed(8), 16), 0)

    assert len({system for system, _ in prompts}) == 1
    assert len({user for _, user in prompts}) == 16
    assert len(prompts[0][0].split()) == 512


def test_conversations_have_a_beginning_of_their_own() -> None:
    plan = MultiTurn(conversations=4, turns=6).plan(0)

    assert len({system["content"] for system, _ in plan}) == 4
    assert [len(said) for _, said in plan] == [6] * 4


def test_every_request_has_a_seed_of_its_own_and_asks_for_usage() -> None:
    bodies = [request.body("m") for request in Distinct(Closed(2), 4).plan(0)]

    assert [body["seed"] for body in bodies] == [0, 1, 2, 3]
    assert all(body["stream_options"] == {"include_usage": True} for body in bodies)
    assert all(body["ignore_eos"] for body in bodies)


def test_poisson_arrivals_are_seeded_and_have_their_rate() -> None:
    arrivals = Poisson(rate=4.0)
    times = arrivals.times(4000, "seed")

    assert times == arrivals.times(4000, "seed")
    assert times != arrivals.times(4000, "another")
    assert times[0] == 0.0
    assert times == sorted(times)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert 0.235 < statistics.mean(gaps) < 0.265
    # Memoryless: the spread of the gaps is their mean.
    assert 0.9 < statistics.stdev(gaps) / statistics.mean(gaps) < 1.1


def test_words_are_plain_and_few_are_said_twice() -> None:
    assert all(word.isascii() and word.islower() for word in WORDS)
    assert len(set(WORDS)) == len(WORDS)
