"""The chat templates of real models: what they render, and what they tell of their models."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from service.errors import InvalidRequest
from service.generation import Chat, Message, Tool, ToolCall, ToolChoice
from service.text.calls import Calls
from service.text.template import ChatTemplate
from service.text.tool_calls import FORMATS, tool_format
from service.text.tool_format import ToolFormat

TEMPLATES = Path(__file__).parent / "templates"

# The syntax of tool calls, of thoughts, and whether a prompt opens thoughts if nothing is asked for.
TABLE: dict[str, tuple[str | None, str, bool]] = {
    "Apertus-8B-Instruct": ("apertus", "apertus", False),
    "Apriel-1.6-15b-Thinker-fixed": ("apriel", "apriel", True),
    "ByteDance-Seed-OSS": ("seed", "seed", False),
    "GLM-4.6": ("glm", "think", False),
    "GLM-4.7-Flash": ("glm", "think", True),
    "GigaChat3-10B-A1.8B": ("gigachat-3", "none", False),
    "GigaChat3.1-10B-A1.8B": ("gigachat", "none", False),
    "MiniMax-M1": ("minimax-m1", "none", False),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral-named", "none", False),
    "Qwen-QwQ-32B": ("hermes", "think", False),
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", "none", False),
    "Qwen-Qwen3-0.6B": ("hermes", "think", False),
    "Qwen3-Coder": ("qwen-coder", "none", False),
    "Qwen3.5-4B": ("qwen-coder", "think", True),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3.1", "think", False),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-v3.2", "think", False),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite", "granite", False),
    "ibm-granite-granite-4.0": ("hermes", "none", False),
    "llama-cpp-deepseek-r1": ("deepseek", "think", True),
    "llama-cpp-rwkv-world": (None, "think", False),
    "meetkai-functionary-medium-v3.1": ("functionary-v3.1", "none", False),
    "meetkai-functionary-medium-v3.2": ("functionary-v3.2", "functionary", False),
    "microsoft-Phi-3.5-mini-instruct": (None, "none", False),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral-named", "magistral", False),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", "none", False),
    "openai-gpt-oss-120b": ("harmony", "harmony", False),
    "openbmb-MiniCPM5-1B": ("minicpm", "think", False),
    "unsloth-Apriel-1.5": ("apriel", "apriel", False),
}
WITH_TOOLS = [name for name, (tools, _, _) in TABLE.items() if tools]

HI = Message("user", "Hi?")
WEATHER = Tool(
    "weather",
    "Looks out.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "deep": {"type": "object"},
        },
    },
)
CLOCK = Tool("clock")
CALLED = Message(
    "assistant",
    tool_calls=(
        ToolCall("call_1", "weather", '{"city": "Bern", "days": 2}'),
        ToolCall("call_2", "clock", "{}"),
    ),
)
RESULTS = (
    Message("tool", "12 °C", tool_call_id="call_1"),
    Message("tool", "noon", tool_call_id="call_2"),
)


@cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate((TEMPLATES / f"{name}.jinja").read_text(), "<s>", "</s>")


def test_all_of_them_are_in_the_table() -> None:
    assert {path.stem for path in TEMPLATES.glob("*.jinja")} == TABLE.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_template_tells_its_models_formats(name: str) -> None:
    found = template(name)
    prompt = found.render(Chat((HI,)))
    tools = found.tool_format.name if found.tool_format else None

    assert (tools, found.reasoning.name, found.reasoning.opened_by(prompt)) == TABLE[name]
    assert "Hi?" in prompt


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_calls_and_their_results_are_shown(name: str) -> None:
    found = template(name)
    alone = found.render(Chat((HI,), (WEATHER, CLOCK)))
    later = (HI, CALLED, *RESULTS, Message("assistant", "Fine."), HI)
    whole = found.render(Chat(later, (WEATHER, CLOCK)))

    assert "weather" in alone
    assert "clock" in alone
    for word in ("Bern", "12 °C", "noon", "Fine."):
        assert word not in alone
        assert word in whole


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_what_the_template_shows_of_a_call_the_parser_reads(name: str) -> None:
    found = template(name)
    form = found.tool_format
    assert form is not None
    call = Message("assistant", tool_calls=CALLED.tool_calls[:1])
    before = found.render(Chat((HI,), (WEATHER,), add_generation_prompt=False))
    whole = found.render(Chat((HI, call), (WEATHER,), add_generation_prompt=False))
    # As a model would go on, from after its header.
    text = whole[len(before) :].rpartition(form.opener or form.head or ">>>")
    calls = Calls(offered=(WEATHER,))
    if form.name == "harmony":
        return  # shown in another spelling than the parser's
    form.parser(calls).feed("".join(text[1:]).removeprefix("" if form.head else ">>>"))

    assert calls.completed == 1


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form.name))
def test_a_format_is_found_by_its_signs(form: ToolFormat) -> None:
    assert tool_format(" ".join(("tools", *form.signs, *form.any_of[:1]))) is form


# ---- what templates want otherwise


def test_two_calls_in_a_turn_become_two_turns_where_the_template_takes_one_only() -> None:
    source = (
        "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls|length != 1 %}"
        "{{ raise_exception('one!') }}{% endif %}({{ m.tool_calls[0].function.name }})"
        "{% else %}{{ m.content }}{% endif %};{% endfor %}"
    )

    assert ChatTemplate(source).render(Chat((HI, CALLED, *RESULTS, HI))) == (
        "Hi?;(weather);12 °C;(clock);noon;Hi?;"
    )


def test_calls_are_written_into_the_text_where_the_template_leaves_them_out() -> None:
    source = "{{ tools }}List of tools: [{% for m in messages %}{{ m.content }};{% endfor %}"
    prompt = ChatTemplate(source).render(Chat((HI, CALLED)))

    assert '<|tool_call_start|>[weather(city="Bern", days=2), clock()]<|tool_call_end|>' in prompt


def test_tools_go_where_the_template_looks_for_them() -> None:
    phi = (
        "{% for m in messages %}{% if m.role == 'system' and 'tools' in m %}"
        "<|tool|>{{ m['tools'] }}<|/tool|>{% endif %}{{ m.content }}{% endfor %}"
    )
    fire = "{{ functions }} {{ datetime }} functools[{{ messages[0].content }}"

    prompt = ChatTemplate(phi).render(Chat((HI,), (CLOCK,)))
    assert prompt.startswith('<|tool|>[{"name": "clock"')
    assert '"name": "clock"' in ChatTemplate(fire).render(Chat((HI,), (CLOCK,)))
    assert ChatTemplate(fire).render(Chat((HI,))).startswith("[] ")


def test_a_schema_is_filled_in_for_a_template_that_takes_its_parts_for_granted() -> None:
    source = (
        "{% macro kind(s) %}{{ s.type }}{% if s.type == 'object' %}"
        "{{ kind(s.additionalProperties) }}{% endif %}{% endmacro %}"
        "{% for t in tools %}{{ kind(t.function.parameters.properties.deep) }}{% endfor %}"
    )

    assert ChatTemplate(source).render(Chat((HI,), (WEATHER,))) == "object"


def test_what_a_template_refuses_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match="roles") as caught:
        template("mistralai-Mistral-Nemo-Instruct-2407").render(Chat((HI, HI)))
    assert caught.value.param == "messages"


def test_a_template_without_a_word_for_tools_has_them_in_its_system_message() -> None:
    """As DeepSeek-V3.1's model card has it."""
    found = template("deepseek-ai-DeepSeek-V3.1")
    prompt = found.render(Chat((Message("system", "Be brief."), HI), (CLOCK,)))
    alone = found.render(Chat((HI,), (CLOCK,)))
    schema = CLOCK.parameters or {"type": "object", "properties": {}}

    assert found.capabilities.tools
    assert prompt.removeprefix("<s>").startswith(
        "Be brief.\n\n## Tools\nYou have access to the following tools:\n\n### clock\n"
        f"Description: {CLOCK.description}\n\nParameters: {json.dumps(schema)}\n\nIMPORTANT: ALWAYS"
    )
    assert alone.removeprefix("<s>").startswith("## Tools\n")
    assert "## Tools" not in found.render(Chat((HI,), (CLOCK,), ToolChoice("none")))
