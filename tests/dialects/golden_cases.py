"""What the golden transcripts are of: for each dialect, requests, and what the model says to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import ContextOverflow, ModelLoadFailed, Overloaded, ServiceError
from service.events import (
    Event,
    Finished,
    FinishReason,
    Logprob,
    PromptLogprobs,
    TextDelta,
    Timings,
    TokenLogprobs,
    Usage,
)
from service.text.reasoning import THINK
from tests.dialects.fakes import Script, end, says
from tests.dialects.ollama.test_traps import HERMES, sampled

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """`content` goes out as it is in the place of `body`. `failure` is what admits nobody."""

    path: str
    body: Body | None = None
    script: Script | ServiceError = field(default_factory=lambda: says("Hello", " there"))
    method: str = "POST"
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def token(id: int, piece: bytes, logprob: float, *others: Logprob) -> TokenLogprobs:
    return TokenLogprobs(Logprob(id, piece, logprob), others)


def ended(script: Script, finished: Finished) -> Script:
    *before, last = script
    assert isinstance(last, list)
    return [*before, [*last[:-1], finished]]


LIKELY: Final = (Logprob(72, b"Hello", -0.25), Logprob(73, b"Hi", -1.75))
EMOJI: Final = "\N{GRINNING FACE}".encode()
SCORED: Final[list[list[Event]]] = [
    [TextDelta(0, "Hello", (token(72, b"Hello", -0.25, *LIKELY),), 1, (72,))],
    [TextDelta(0, "", (token(240, EMOJI[:2], -0.5),), 1, (240,))],
    # An engine's step brings an answer's last token together with its end.
    [
        TextDelta(0, EMOJI.decode(), (token(241, EMOJI[2:], float("-inf")),), 1, (241,)),
        end(seed=42),
    ],
]
PROMPT_SCORED: Final[list[list[Event]]] = [
    [PromptLogprobs(0, (None, token(99, b" you", -2.5, Logprob(98, b" I", -0.5))))],
    *SCORED,
]
THOUGHT: Final = sampled([b"<think>", b"hm", b"</think>", b"so"], form=THINK)
CALLED: Final = ended(
    sampled(
        [
            b"Well. ",
            b"<tool_call>",
            b'{"name": "add", "argu',
            b'ments": {"a": 1}}',
            b"</tool_call>",
        ],
        tools=HERMES,
    ),
    end(reason=FinishReason.TOOL_CALLS, tokens=5),
)
JSON_TEXT: Final = says('{"a":', "1}")
CUT: Final = says("one", " two", reason=FinishReason.LENGTH)
STOPPED: Final = says("one", " two", stop="###")
LATE: Final = says("late", reason=FinishReason.TIMEOUT)
TWO: Final[list[list[Event]]] = [
    [TextDelta(0, "left", tokens=1), TextDelta(1, "right", tokens=1)],
    [end(1, tokens=1), TextDelta(0, "!", tokens=1)],
    [end(0, tokens=2)],
]
UNKNOWN_TIMES: Final = Timings(1.0, 1.25)
UNLOADED: Final[list[list[Event]]] = [
    [
        Finished(
            0,
            FinishReason.ERROR,
            Usage(7),
            UNKNOWN_TIMES,
            error="The model `demo:latest` was unloaded.",
            code="unloaded",
        )
    ]
]
BROKEN: Final[list[list[Event]]] = [
    [TextDelta(0, "Hel", tokens=1)],
    [
        Finished(
            0,
            FinishReason.ERROR,
            Usage(7, 2, 1),
            UNKNOWN_TIMES,
            error="The engine stopped while it worked on this request.",
            code="engine_crashed",
        )
    ],
]
TOO_LONG: Final = ContextOverflow(5000, 2048, 16)
FULL: Final = Overloaded("The queue of the model `demo:latest` is full.", retry_after=3.0)
UNFIT: Final = ModelLoadFailed("The model `demo:latest` needs more memory than there is.")

ASK: Final = [{"role": "user", "content": "hi"}]
ADD: Final = {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}
TOOLS: Final = [{"type": "function", "function": ADD}]
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
STREAM: Final = {"stream": True}
COUNTED: Final = {**STREAM, "stream_options": {"include_usage": True}}


def common(path: str, asked: Body, silent: Body, streamed: Body) -> dict[str, Case]:
    """What every dialect has an answer to. `silent` makes it whole, `streamed` a stream."""
    whole = {**asked, **silent}
    return {
        "plain": Case(path, whole),
        "stream": Case(path, {**asked, **streamed}),
        "stopped": Case(path, whole, STOPPED),
        "length": Case(path, whole, CUT),
        "timed-out": Case(path, whole, LATE),
        "broken-stream": Case(path, {**asked, **streamed}, BROKEN),
        "broken-whole": Case(path, whole, BROKEN),
        "unloaded": Case(path, whole, UNLOADED),
        "too-long": Case(path, whole, TOO_LONG),
        "queue-full": Case(path, whole, FULL),
        "does-not-load": Case(path, whole, UNFIT),
        "no-json": Case(path, content=b'{"a":'),
        "wrong-method": Case(path, method="PUT"),
        "unknown-model": Case(path, {**whole, "model": "nope"}),
        "ignored": Case(path, {**whole, "frobnicate": 1}),
    }


CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"


def chats(path: str) -> dict[str, Case]:
    """The cases of OpenAI's chat, for each dialect that has it."""
    asked: Body = {"model": "demo", "messages": ASK}
    called = {**asked, "tools": TOOLS}
    scored = {**asked, "logprobs": True, "top_logprobs": 2}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    return {
        **common(path, asked, {}, STREAM),
        "usage-chunk": Case(path, {**asked, **COUNTED}),
        "thoughts": Case(path, asked, THOUGHT),
        "thoughts-stream": Case(path, {**asked, **STREAM}, THOUGHT),
        "call": Case(path, called, CALLED),
        "call-stream": Case(path, {**called, **STREAM}, CALLED),
        "schema": Case(path, {**asked, "response_format": shape}, JSON_TEXT),
        "logprobs": Case(path, scored, SCORED),
        "logprobs-stream": Case(path, {**scored, **STREAM}, SCORED),
        "two": Case(path, {**asked, "n": 2}, TWO),
        "two-stream": Case(path, {**asked, "n": 2, **COUNTED}, TWO),
        "bad-field": Case(path, {**asked, "temperature": "hot"}),
        "no-messages": Case(path, {"model": "demo"}),
    }


def completions(path: str) -> dict[str, Case]:
    asked: Body = {"model": "demo", "prompt": "Once"}
    return {
        "text": Case(path, asked),
        "text-stream": Case(path, {**asked, **COUNTED}),
        "text-two": Case(path, {**asked, "n": 2}, TWO),
        "text-broken-stream": Case(path, {**asked, **STREAM}, BROKEN),
    }


OPENAI: Final = {
    **chats(CHAT),
    **completions(TEXT),
    "text-logprobs": Case(TEXT, {"prompt": "Once", "logprobs": 2}, SCORED),
    "function": Case(CHAT, {"messages": ASK, "functions": [ADD], "function_call": "auto"}, CALLED),
    "function-stream": Case(CHAT, {"messages": ASK, "functions": [ADD], **STREAM}, CALLED),
    "timings": Case(CHAT, {"messages": ASK, "timings_per_token": True}),
    "embeddings": Case("/v1/embeddings", {"input": ["a b", "c"]}),
    "embeddings-base64": Case("/v1/embeddings", {"input": "a b", "encoding_format": "base64"}),
    "models": Case("/v1/models", method="GET"),
    "no-model": Case("/v1/models/nope", method="GET"),
    "not-served": Case("/v1/images/generations", {}),
    "nothing-there": Case("/v1/nothing", method="GET"),
    "response": Case("/v1/responses", {"input": "hi"}),
    "response-stream": Case("/v1/responses", {"input": "hi", **STREAM}),
    "response-thoughts-stream": Case("/v1/responses", {"input": "hi", **STREAM}, THOUGHT),
    "response-call-stream": Case(
        "/v1/responses",
        {"input": "hi", "tools": [{"type": "function", **ADD}], **STREAM},
        CALLED,
    ),
    "response-cut": Case("/v1/responses", {"input": "hi", "max_output_tokens": 2}, CUT),
    "response-broken-stream": Case("/v1/responses", {"input": "hi", **STREAM}, BROKEN),
    "response-unknown": Case("/v1/responses/resp_none", method="GET"),
}
OLLAMA_CHAT: Final = "/api/chat"
GENERATE: Final = "/api/generate"
SILENT: Final = {"stream": False}
OLLAMA_ASK: Final = {"model": "demo", "messages": ASK}
OLLAMA: Final = {
    **common(OLLAMA_CHAT, OLLAMA_ASK, SILENT, {}),
    "thoughts": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "think": True, **SILENT}, THOUGHT),
    "thoughts-stream": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "think": True}, THOUGHT),
    "thoughts-inline": Case(OLLAMA_CHAT, OLLAMA_ASK, THOUGHT),
    "call": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "tools": TOOLS, **SILENT}, CALLED),
    "call-stream": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "tools": TOOLS}, CALLED),
    "schema": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "format": SCHEMA, **SILENT}, JSON_TEXT),
    "logprobs": Case(
        OLLAMA_CHAT, {**OLLAMA_ASK, "logprobs": True, "top_logprobs": 2, **SILENT}, SCORED
    ),
    "generate": Case(GENERATE, {"model": "demo", "prompt": "hi", **SILENT}),
    "generate-stream": Case(GENERATE, {"model": "demo", "prompt": "hi"}),
    "load": Case(GENERATE, {"model": "demo"}),
    "unload": Case(GENERATE, {"model": "demo", "keep_alive": 0}),
    "bad-option": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "options": {"num_ctx": "x"}}),
    "no-body": Case(OLLAMA_CHAT),
    "no-tool-name": Case(OLLAMA_CHAT, {**OLLAMA_ASK, "think": "hard"}),
    "embed": Case("/api/embed", {"model": "demo", "input": ["a b", "c"]}),
    "embeddings": Case("/api/embeddings", {"model": "demo", "prompt": "a b"}),
    "tags": Case("/api/tags", method="GET"),
    "version": Case("/api/version", method="GET"),
    "not-served": Case("/api/pull", {"model": "x"}),
    "nothing-there": Case("/api/nothing", method="GET"),
}
VLLM: Final = {
    **chats("/vllm/v1/chat/completions"),
    **completions("/vllm/v1/completions"),
    "prompt-logprobs": Case(
        "/vllm/v1/chat/completions", {"messages": ASK, "prompt_logprobs": 1}, PROMPT_SCORED
    ),
    "response": Case("/vllm/v1/responses", {"input": "hi"}),
    "response-stream": Case("/vllm/v1/responses", {"input": "hi", **STREAM}),
    "message": Case("/vllm/v1/messages", {"messages": ASK, "max_tokens": 9}),
    "tokenize": Case("/vllm/tokenize", {"prompt": "ab", "return_token_strs": True}),
    "detokenize": Case("/vllm/detokenize", {"tokens": [104, 105]}),
    "models": Case("/vllm/v1/models", method="GET"),
    "score": Case("/vllm/score", {"text_1": "a b", "text_2": ["a b", "c"]}),
    "not-served": Case("/vllm/pooling", {}),
    "no-content-type": Case(
        "/vllm/v1/chat/completions", {"messages": ASK}, headers={"Content-Type": "text/plain"}
    ),
}


def of_tgi(path: str, asked: Body, streamed: Body) -> dict[str, Case]:
    cases = common(path, asked, {}, streamed)
    # One event is one token: without its likelihood there is none.
    cases["stream"] = Case(path, {**asked, **streamed}, SCORED)
    # The root of the server is not TGI's alone.
    cases["wrong-method"] = Case("/generate", method="PUT")
    return cases


GREET: Final = {"inputs": "hi"}
DETAILED: Final = {"inputs": "hi", "parameters": {"details": True, "max_new_tokens": 8}}
TGI: Final = {
    **of_tgi("/", GREET, STREAM),
    "generate": Case("/generate", GREET),
    "generate-stream": Case("/generate_stream", DETAILED, SCORED),
    "details": Case("/generate", DETAILED, SCORED),
    "top-tokens": Case(
        "/generate", {"inputs": "hi", "parameters": {"details": True, "top_n_tokens": 2}}, SCORED
    ),
    "generate-broken": Case("/generate", GREET, BROKEN),
    "bad-value": Case("/generate", {"inputs": "hi", "parameters": {"temperature": 0}}),
    "no-inputs": Case("/generate", {"inputs": ""}),
    "tokenize": Case("/tgi/tokenize", {"inputs": "ab"}),
    "info": Case("/info", method="GET"),
    "vertex": Case("/vertex", {"instances": [{"inputs": "hi"}]}),
    **{f"chat-{name}": case for name, case in chats("/tgi/v1/chat/completions").items()},
    **completions("/tgi/v1/completions"),
}
MESSAGES: Final = "/v1/messages"
CLAUDE: Final = {"model": "demo", "max_tokens": 64, "messages": ASK}
CLAUDE_TOOLS: Final = [{"name": "add", "input_schema": {"type": "object"}}]
THINKING: Final = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
ANTHROPIC: Final = {
    **common(MESSAGES, CLAUDE, {}, STREAM),
    "thoughts": Case(MESSAGES, {**CLAUDE, **THINKING}, THOUGHT),
    "thoughts-stream": Case(MESSAGES, {**CLAUDE, **THINKING, **STREAM}, THOUGHT),
    "call": Case(MESSAGES, {**CLAUDE, "tools": CLAUDE_TOOLS}, CALLED),
    "call-stream": Case(MESSAGES, {**CLAUDE, "tools": CLAUDE_TOOLS, **STREAM}, CALLED),
    "stop-sequence": Case(MESSAGES, {**CLAUDE, "stop_sequences": ["###"]}, STOPPED),
    "count": Case("/v1/messages/count_tokens", {"messages": ASK}),
    "no-limit": Case(MESSAGES, {"messages": ASK}),
    "models": Case("/anthropic/v1/models", method="GET"),
    "nothing-there": Case("/anthropic/v1/nothing", method="GET"),
}
COMPLETION: Final = "/completion"
LLAMA: Final = {"prompt": "Once", "n_predict": 8}
LLAMA_SERVER: Final = {
    **common(COMPLETION, LLAMA, {}, STREAM),
    "probabilities": Case(COMPLETION, {**LLAMA, "n_probs": 2}, SCORED),
    "probabilities-stream": Case(COMPLETION, {**LLAMA, "n_probs": 2, **STREAM}, SCORED),
    "tokens": Case(COMPLETION, {**LLAMA, "return_tokens": True}, SCORED),
    "chosen-fields": Case(COMPLETION, {**LLAMA, "response_fields": ["content", "stop_type"]}),
    "grammar": Case(COMPLETION, {**LLAMA, "grammar": 'root ::= "a"'}, says("a")),
    "bad-grammar": Case(COMPLETION, {**LLAMA, "grammar": "root ::= root"}),
    "template": Case("/apply-template", {"messages": ASK}),
    "tokenize": Case("/tokenize", {"content": "ab", "with_pieces": True}),
    "embedding": Case("/embedding", {"content": "a b"}),
    "models": Case("/models", method="GET"),
    "slots": Case("/slots", method="GET"),
    "not-served": Case("/slots/0?action=erase", {}),
}
OWN: Final = {
    "models": Case("/api/models", method="GET"),
    "requests": Case("/api/requests", method="GET"),
    "progress-unknown": Case("/api/progress/none", method="GET"),
    "cancel-unknown": Case("/api/cancel/none"),
    "dismiss": Case("/api/dismiss/none"),
    "dismiss-completed": Case("/api/dismiss/completed"),
    "chat": Case("/api/chat/completions", {"messages": ASK}),
    "listed": Case("/hf/v1/completions", GREET),
    "invoked": Case("/invocations", {"prompt": "hi"}),
    "detokenize": Case("/detokenize", {"tokens": [104, 105]}),
    "version": Case("/version", method="GET"),
    "card": Case("/", method="GET", headers={"Accept": "application/json"}),
    "root": Case("/", method="GET"),
}

CASES: Final[Mapping[str, Mapping[str, Case]]] = {
    "openai": OPENAI,
    "ollama": OLLAMA,
    "vllm": VLLM,
    "tgi": TGI,
    "anthropic": ANTHROPIC,
    "llama-server": LLAMA_SERVER,
    "seed": OWN,
}
