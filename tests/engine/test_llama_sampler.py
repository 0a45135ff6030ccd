"""What the sampler takes of what a model wants, where it may not have it. The logits are written
by hand, the vocabulary and the samplers are llama.cpp's."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from service.engine.llama_candidates import Candidates
from service.engine.llama_chain import Samplers
from service.engine.llama_grammar import PrefixTable
from service.engine.llama_sampler import LlamaSampler
from service.engine.model import Ids
from service.engine.sampling import Stage
from service.generation import Grammar, SamplingParams
from tests.engine.child import DEMO

GREEDY = SamplingParams(temperature=0)
NOTHING = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def vocab() -> Iterator[Any]:
    params = llama.llama_model_default_params()
    params.vocab_only = True
    model = llama.llama_model_load_from_file(str(DEMO).encode(), params)
    yield llama.llama_model_get_vocab(model)
    llama.llama_model_free(model)


class Writer:
    """A model that wants what it is told to want: its logits, and samplers that read them."""

    def __init__(self, vocab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vocab = vocab
        self.n_vocab = llama.llama_vocab_n_tokens(vocab)
        self._row = np.zeros(self.n_vocab, np.float32)
        pointer = self._row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        monkeypatch.setattr(llama, "llama_get_logits_ith", lambda context, row: pointer)
        self._samplers = Samplers(vocab)
        self._candidates = Candidates(self.n_vocab)
        monkeypatch.setattr(llama, "llama_sampler_sample", self._sample)
        self._prefixes = PrefixTable(vocab)
        self.ends = {t for t in range(self.n_vocab) if llama.llama_vocab_is_eog(vocab, t)}

    def sampler(
        self, sampling: SamplingParams, grammar: Grammar | None = None, prompt: Ids = NOTHING
    ) -> LlamaSampler:
        return LlamaSampler(
            self.vocab,
            None,
            self._samplers,
            self._candidates,
            self._prefixes,
            sampling,
            grammar,
            prompt,
            0,
            n_ctx=64,
            end_tokens=self.ends,
            piece=self.piece,
            tokenize=self.tokenize,
        )

    def _sample(self, chain: Any, context: Any, row: int) -> int:
        """What the function does with a row of a context, which there is none of."""
        array = self._candidates.fill(context, row)
        llama.llama_sampler_apply(chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        llama.llama_sampler_accept(chain, token)
        return token

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = llama.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(size, 0)]

    def tokenize(self, text: str) -> Ids:
        tokens = np.empty(len(text.encode()) + 8, np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token))
        data = text.encode()
        count = llama.llama_tokenize(self.vocab, data, len(data), pointer, len(tokens), False, True)
        return tokens[:count]

    def token(self, text: str) -> int:
        """The one that is this text and nothing else."""
        found = [t for t in range(self.n_vocab) if self.piece(t) == text.encode()]
        return found[0]

    def want(self, *tokens: int) -> None:
        """These in this order, and anything else after them."""
        self._row[:] = -np.arange(self.n_vocab) / self.n_vocab
        for rank, token in enumerate(tokens):
            self._row[token] = 100.0 - rank

    def write(self, sampler: LlamaSampler, *wanted: str, most: int = 40) -> str:
        """What comes of it: each time the next of these texts is wanted, at last always the end."""
        out = []
        end = min(self.ends)
        wishes = [self.token(text) for text in wanted]
        for at in range(most):
            self.want(*wishes[at : at + 1], end)
            token = sampler.sample(0)
            if token in self.ends:
                break
            out.append(self.piece(token))
        return b"".join(out).decode()


@pytest.fixture
def writer(vocab: Any, monkeypatch: pytest.MonkeyPatch) -> Writer:
    return Writer(vocab, monkeypatch)


OPENER = {"after": "[/THINK]", "opener": "[THINK]"}
LEAD = "[ \\n]{0,4}"


def test_what_could_have_been_thoughts_and_is_not_belongs_to_the_grammar(writer: Writer) -> None:
    digits = Grammar(f'root ::= {LEAD} "[" [0-9] "]"', **OPENER)  # type: ignore[arg-type]

    assert re.fullmatch(r"\[\d\]", writer.write(writer.sampler(GREEDY, digits), "[", "["))
    assert re.fullmatch(r"\n\[\d\]", writer.write(writer.sampler(GREEDY, digits), "\n", "[", "["))


def test_a_call_may_begin_as_thoughts_do(writer: Writer) -> None:
    call = Grammar(f'root ::= {LEAD} "<tool_call>" "{{}}"', after="</think>", opener="<think>")

    assert writer.write(writer.sampler(GREEDY, call), "<", "t", "o") == "<tool_call>{}"


def test_what_the_grammar_refuses_can_only_be_the_beginning_of_thoughts(writer: Writer) -> None:
    braces = Grammar(f'root ::= {LEAD} "{{}}"', **OPENER)  # type: ignore[arg-type]

    assert writer.write(writer.sampler(GREEDY, braces), "[", "x") == "[THINK][/THINK]{}"


def test_the_end_is_no_beginning_of_thoughts(writer: Writer) -> None:
    braces = Grammar(f'root ::= {LEAD} "{{}}"', **OPENER)  # type: ignore[arg-type]

    assert writer.write(writer.sampler(GREEDY, braces)) == "{}"


def test_thoughts_that_end_the_answer_are_closed_and_what_was_asked_for_follows(
    writer: Writer,
) -> None:
    inside = Grammar(f'root ::= {LEAD} "{{}}"', after="[/THINK]")
    opened = Grammar(f'root ::= {LEAD} "{{}}"', **OPENER)  # type: ignore[arg-type]
    opening = [writer.piece(token).decode() for token in writer.tokenize("[THINK]")]

    assert writer.write(writer.sampler(GREEDY, inside), "x") == "x[/THINK]{}"
    assert writer.write(writer.sampler(GREEDY, inside), "x", "[", "/") == "x[/THINK]{}"
    assert writer.write(writer.sampler(GREEDY, opened), *opening, "x") == "[THINK]x[/THINK]{}"


def test_thoughts_may_end_an_answer_that_need_not_be_a_call(writer: Writer) -> None:
    call = Grammar('root ::= "<tool_call>"', triggers=("(<tool_call>)",), after="</think>")

    assert writer.write(writer.sampler(GREEDY, call), "x") == "x"


def test_an_end_that_the_client_lists_is_none_that_is_ignored(writer: Writer) -> None:
    a, end = writer.token("a"), min(writer.ends)
    sampler = writer.sampler(
        SamplingParams(temperature=0, ignore_eos=True, stop_token_ids=(a,), min_tokens=1)
    )
    b = writer.token("b")
    writer.want(end, a, b)

    assert sampler.sample(0) == b
    sampler.allow_end()
    assert sampler.sample(0) == a


def test_where_bad_words_leave_nothing_the_answer_ends(writer: Writer) -> None:
    q = writer.token("q")
    assert writer.tokenize("\nqq").tolist()[-2:] == [q, q]
    for allowed in ((q,), (q, min(writer.ends))):
        sampling = SamplingParams(allowed_token_ids=allowed, bad_words=("qq",), ignore_eos=True)
        sampler = writer.sampler(sampling)
        writer.want(q)

        assert sampler.sample(0) == q
        assert sampler.sample(0) in writer.ends


def test_of_a_prompt_only_the_window_is_looked_at_and_once_for_all_answers(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    for name in ("llama_sampler_init_dry", "llama_sampler_accept"):
        counted = partial(_counted, calls, name, getattr(llama, name))
        monkeypatch.setattr(llama, name, counted)
    sampling = SamplingParams(dry_multiplier=0.8, dry_penalty_last_n=8, repeat_penalty=1.1)
    prompt, other = (np.arange(100, dtype=np.int32) for _ in range(2))
    kept = [writer.sampler(sampling, prompt=prompt) for _ in range(3)]
    assert calls == {"llama_sampler_init_dry": 1, "llama_sampler_accept": 8 + 64}
    kept.append(writer.sampler(sampling, prompt=other))
    assert calls == {"llama_sampler_init_dry": 1, "llama_sampler_accept": 2 * (8 + 64)}


def _counted(calls: Counter[str], name: str, call: Any, *arguments: Any) -> Any:
    calls[name] += 1
    return call(*arguments)


def test_a_copy_of_a_sampler_that_saw_the_prompt_does_what_the_sampler_does(
    writer: Writer,
) -> None:
    prompt = np.array([5, 6, 7, 9] * 4 + [5, 6, 7], np.int32)
    dry = Stage("dry", (0.8, 1.75, 2, 64, ("\n",)), 64)
    alone = llama.llama_sampler_init_dry(writer.vocab, 0.8, 1.75, 2, 64, None, 0)
    for token in prompt.tolist():
        llama.llama_sampler_accept(alone, token)
    samplers = Samplers(writer.vocab)
    copies = [samplers.stage(dry, prompt) for _ in range(2)]
    # What one answer goes on with is not another's.
    llama.llama_sampler_accept(copies[0], 300)
    writer.want(9)
    found = []
    for sampler in (alone, copies[1]):
        array = writer._candidates.fill(None, 0)
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        found.append([array.data[at].logit for at in range(20)])
    for sampler in (alone, *copies):
        llama.llama_sampler_free(sampler)

    assert found[0] == found[1]
    assert found[0][9] < 100


def test_the_breakers_of_many_clients_are_not_all_kept(writer: Writer) -> None:
    samplers = Samplers(writer.vocab)
    for number in range(20):
        stage = Stage("dry", (1.0 + number, 1.75, 2, 64, ("\n",)), 64)
        llama.llama_sampler_free(samplers.stage(stage, NOTHING))

    assert len(samplers._dry) == 8
