"""What a client asked for, in the service's own words: every dialect parses into these.

All of it is frozen, and all of it can cross to an engine process as msgpack.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]

# Adapters that are applied: (number in the model's list, scale), by number, none of scale 0.
Selection = tuple[tuple[int, float], ...]


class ToolCall(Struct, frozen=True):
    """A call that a model made. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One turn of a conversation. `reasoning` is what the assistant thought before `content`."""

    role: Role
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


class Tool(Struct, frozen=True):
    """A function that the model may call. `parameters` is a JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


class ToolChoice(Struct, frozen=True):
    """`auto` lets the model decide, `required` forces some call, `named` forces one of `names`."""

    mode: Literal["none", "auto", "required", "named"] = "auto"
    names: tuple[str, ...] = ()


class ResponseFormat(Struct, frozen=True):
    """The shape that the answer must have; at most one of the fields named like a kind is used.

    `json` is any JSON object, `schema` a JSON schema, `grammar` GBNF text, `regex` matches the
    whole answer, `choice` lists all possible answers. `param` is the request's field that asks
    for all this, to be named in errors.
    """

    kind: Literal["text", "json", "schema", "grammar", "regex", "choice"] = "text"
    schema: dict[str, Any] | bool | None = None
    grammar: str | None = None
    regex: str | None = None
    choice: tuple[str, ...] = ()
    param: str = "response_format"


class Chat(Struct, frozen=True, tag="chat"):
    """A conversation, to be rendered by the model's own chat template."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    # Passed to the template by name; None leaves the template's own default in force.
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    template_variables: dict[str, Any] = {}
    # The last message is gone on with. Without that, and without a generation prompt, the prompt
    # ends as the template ends that message.
    continue_final_message: bool = False
    add_generation_prompt: bool = True
    # What the model itself begins conversations with is there already, or has no place here.
    introduced: bool = False


class Text(Struct, frozen=True, tag="text"):
    """A raw prompt. Control tokens written in it are read as such, as `llama-server` does."""

    prompt: str
    add_special_tokens: bool = True


class Tokens(Struct, frozen=True, tag="tokens"):
    """A prompt that the client tokenized itself."""

    ids: tuple[int, ...]


class Infill(Struct, frozen=True, tag="infill"):
    """What stands before and after the text that is wanted, for models trained to fill in."""

    prefix: str
    suffix: str


class Truncation(Struct, frozen=True):
    """What may be cut from a prompt that is longer than `limit` tokens, or than its sequence.

    The first `keep` tokens stay; of the rest the end stays with side "left", the beginning with
    side "right". limit None: as many as leave one cell for the answer. What was cut is counted.
    """

    limit: int | None = None
    keep: int = 0
    side: Literal["left", "right"] = "left"


class Grammar(Struct, frozen=True):
    """GBNF that holds every token, or with `triggers` only from where one of them matched.

    `triggers` are regular expressions over the whole generated text, in the syntax of
    `llama_sampler_init_grammar_lazy_patterns`: the grammar starts at their first group.
    With `after` set, the grammar starts once that text has been generated (the end of thinking),
    or its triggers are looked for from there; with `opener` too, only an answer that begins with
    `opener` has such a free part.
    `begun` is what the prompt holds of the text already: the answer is held to the rest.
    """

    text: str
    root: str = "root"
    triggers: tuple[str, ...] = ()
    after: str | None = None
    opener: str | None = None
    begun: str = ""


class Thoughts(Struct, frozen=True):
    """Thoughts end after `budget` tokens: the engine then writes `closer` itself.

    The marks are the model's; they are filled in where the prompt is prepared. `inside`: the
    prompt ends within thoughts, so that no `opener` is waited for.
    """

    budget: int
    opener: str = ""
    closer: str = ""
    inside: bool = False


class SamplingParams(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen, and when to stop. Defaults change nothing (OpenAI's).

    temperature: 0 is greedy. top_k: 0 is off. top_p, typical_p: 1 is off. min_p: 0 is off.
    repeat_penalty looks at the last `repeat_last_n` tokens of prompt and answer (-1: all);
    presence_penalty and frequency_penalty at the whole answer only, as OpenAI defines them.
    max_tokens: None runs to the end of the context. logprobs: None off, else how many
    alternatives beside the sampled token; prompt_logprobs the same for the prompt's tokens.
    must_fit: a prompt that leaves no room for max_tokens is refused.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: Literal[0, 1, 2] = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    # Whether the ids of prompt and answer are wanted beside the text.
    token_ids: bool = False
    # If not empty, no other token may be sampled.
    allowed_token_ids: tuple[int, ...] = ()
    # Never written, with a space before them or without.
    bad_words: tuple[str, ...] = ()
    thoughts: Thoughts | None = None
    must_fit: bool = False


class LoadWishes(Struct, frozen=True):
    """How a request wants its model to be loaded; None: as the operator has it.

    n_ctx: the least context of one sequence, in tokens. gpu_layers: layers on GPUs, the output
    counted as one. They are named as in `EngineParams`.
    """

    n_ctx: int | None = None
    n_batch: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    main_gpu: int | None = None
    tensor_split: tuple[float, ...] | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None


class AdapterChoice(Struct, frozen=True):
    """`adapter`: its name, or its number in the model's list. scale None: its own, or 1 where that
    is 0."""

    adapter: str | int
    scale: float | None = None


class GenerationRequest(Struct, frozen=True):
    """One request as the dialects hand it on. `arrived` is in monotonic seconds.

    `dialect` and `endpoint` serve as metric labels only; nothing below the dialects branches
    on them. `n` answers are sampled from one prefill.

    A prompt too long is refused, unless `truncation` allows to cut its tokens or, in a chat,
    `drop_messages` its oldest messages (never the system's, never the last).
    keep_alive: seconds for which the model stays loaded afterwards, negative for ever; None
    leaves what holds.
    cache_salt: prompts share what was computed of them only among requests with the same one.
    priority: where requests wait, lower ones are taken first.
    load: what of it is not met, the dialect reports.
    owner: the name of the key that asks; `local` where there are no keys.
    traceparent: of the HTTP request's span, as W3C Trace Context writes it, where it is traced.
    adapters: these and no others; None: what the model, or the name that it was asked for by, has.
    """

    id: str
    model: str
    input: Chat | Text | Tokens | Infill
    arrived: float
    dialect: str
    endpoint: str
    sampling: SamplingParams = SamplingParams()
    response_format: ResponseFormat = ResponseFormat()
    n: int = 1
    stream: bool = False
    timeout: float | None = None
    truncation: Truncation | None = None
    drop_messages: bool = False
    keep_alive: float | None = None
    cache_salt: str = ""
    priority: int = 0
    load: LoadWishes = LoadWishes()
    owner: str = "local"
    traceparent: str | None = None
    adapters: tuple[AdapterChoice, ...] | None = None


class EmbeddingRequest(Struct, frozen=True):
    """One vector for each of `inputs`, in their order; the rest as in GenerationRequest.

    normalize: to length 1. dimensions: the first so many of each vector (before normalizing).
    An input too long is refused, unless `truncation` allows to cut it.
    A conversation is the text that the model's template makes of it.
    """

    id: str
    model: str
    inputs: tuple[Text | Tokens | Chat, ...]
    arrived: float
    dialect: str
    endpoint: str
    normalize: bool = True
    dimensions: int | None = None
    timeout: float | None = None
    truncation: Truncation | None = None
    keep_alive: float | None = None
    load: LoadWishes = LoadWishes()
    priority: int = 0
    owner: str = "local"
    traceparent: str | None = None
