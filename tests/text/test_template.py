from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from service.errors import InvalidRequest, ModelLoadFailed
from service.generation import Chat, Message, Tool, ToolCall, ToolChoice
from service.text.formats_objects import HERMES
from service.text.reasoning import NONE, THINK
from service.text.template import ChatTemplate

HI = Message("user", "Hi & <b>")
SYSTEM = Message("system", "Be brief.")
WEATHER = Tool(
    "weather", "Looks out.", {"type": "object", "properties": {"stadt": {"title": "Ä<"}}}
)
CALLED = Message("assistant", tool_calls=(ToolCall("call_1", "weather", '{"stadt": "Zürich"}'),))
RESULT = Message("tool", "12 °C", tool_call_id="call_1")

# In the manner of Qwen3's.
THINKER = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- tool | tojson ~ '\\n' }}{% endfor %}
    {{- '{"name": f, "arguments": a} within <tool_call></tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content is defined %}
        {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- message.content.split('</think>')[-1] }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- elif effort is defined %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""


def render(source: str | None, *messages: Message, **chat: Any) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(Chat(messages, **chat))


def test_without_a_template_chatml_is_guessed() -> None:
    assert ChatTemplate(None).guessed
    assert not ChatTemplate("x").guessed
    assert render(None, SYSTEM, HI) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi & <b><|im_end|>\n<|im_start|>assistant\n"
    )
    assert ChatTemplate("").reasoning is NONE


def test_calls_go_in_as_mappings_and_come_out_as_json_that_is_not_escaped_for_html() -> None:
    prompt = render(THINKER, HI, CALLED, RESULT, tools=(WEATHER,))

    assert '"stadt": {"title": "Ä<"}' in prompt
    assert '{"name": "weather", "arguments": {"stadt": "Zürich"}}' in prompt
    assert "Hi & <b>" in prompt


def test_tools_that_must_not_be_called_are_not_shown() -> None:
    prompt = render(THINKER, HI, tools=(WEATHER,), tool_choice=ToolChoice("none"))

    assert "weather" not in prompt


def test_the_template_tells_what_the_model_can_do() -> None:
    template = ChatTemplate(THINKER)
    plain = ChatTemplate("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")

    assert template.reasoning is THINK
    assert template.tool_format is HERMES
    assert template.capabilities.tools
    assert template.capabilities.thinking
    assert template.capabilities.thinking_switch
    assert template.capabilities.system
    assert not plain.capabilities.tools
    assert not plain.capabilities.thinking
    assert not plain.capabilities.thinking_switch


def test_thinking_is_switched_only_where_the_request_says_so() -> None:
    template = ChatTemplate(THINKER)
    default = template.render(Chat((HI,)))
    off = template.render(Chat((HI,), enable_thinking=False))
    opened = template.render(Chat((HI,), template_variables={"effort": "high"}))

    assert default.endswith("<|im_start|>assistant\n")
    assert off.endswith("<think>\n\n</think>\n\n")
    assert [template.reasoning.opened_by(p) for p in (default, off, opened)] == [False, False, True]


def test_earlier_thoughts_are_given_by_the_name_that_the_template_reads() -> None:
    thought = Message("assistant", "4", reasoning="2+2")

    assert "<think>\n2+2\n</think>\n\n4" in render(THINKER, HI, thought)
    for key in ("reasoning_content", "reasoning", "thinking"):
        source = f"{{% for m in messages %}}{{{{ m['{key}'] }}}}{{% endfor %}}"
        assert render(source, thought) == "2+2"
    assert render("{{ messages[0] | tojson }}", thought) == '{"role": "assistant", "content": "4"}'


def test_variables_reach_the_template_only_if_it_reads_them_and_they_are_the_clients_to_set() -> (
    None
):
    source = "{{ bos_token }}{{ mood }}{{ range(2)|list }}{{ messages|length }}{{ tools }}"
    variables = {
        "mood": "bad", "bos_token": "x", "messages": [], "tools": [1], "range": "x", "other": object,
    }  # fmt: skip

    assert render(source, HI, template_variables=variables) == "<s>bad[0, 1]1None"


def test_a_template_that_reads_the_date_is_told_the_day_of_the_request() -> None:
    today = [datetime(2025, 3, 1)]
    source = (
        "{% if not date_string is defined %}long ago{% endif %}{{ date_string }}, {{ datetime }}"
    )
    template = ChatTemplate(source, now=lambda: today[0])

    today[0] = datetime(2025, 3, 2)

    assert template.render(Chat((Message("user", "x"),))) == "02 Mar 2025, Mar 02 2025"


def test_a_request_may_name_another_day() -> None:
    template = ChatTemplate("{{ date_string }}", now=lambda: datetime(2025, 3, 1))
    chat = Chat((Message("user", "x"),), template_variables={"date_string": "today"})

    assert template.render(chat) == "today"


def test_the_time_of_day_is_the_templates_to_format() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", now=lambda: datetime(2025, 3, 1))

    assert template.render(Chat((HI,))) == "01 Mar 2025"


def test_a_call_without_text_has_empty_content_and_a_result_has_the_name_of_its_tool() -> None:
    source = (
        "{% for m in messages %}[{{ m.content }}|{{ m.name }}|{{ 'tool_calls' in m }}]{% endfor %}"
    )

    assert render(source, HI, CALLED, RESULT) == "[Hi & <b>||False][||True][12 °C|weather|False]"


def test_arguments_are_text_where_the_template_prints_them_as_they_are() -> None:
    each = "{% for m in messages %}{% for c in m.tool_calls %}%s{% endfor %}{% endfor %}"

    for use in ("{{ c.function.arguments }}", "{{ 'x' + c.function.arguments }}"):
        assert '{"stadt": "Zürich"}' in render(each.replace("%s", use), HI, CALLED)
    assert render(each.replace("%s", "{{ c.function.arguments.stadt }}"), CALLED) == "Zürich"
    broken = Message("assistant", tool_calls=(ToolCall("c", "weather", "{broken"),))
    assert render(each.replace("%s", "{{ c.function.arguments|tojson }}"), broken) == '"{broken"'


def test_mistrals_short_ids_are_made_alike_for_call_and_result() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls %}{% if c.id|length != 9 %}"
        "{{ raise_exception('ids!') }}{% endif %}{{ c.id }} {% endfor %}{{ m.tool_call_id }}{% endfor %}"
    )
    call, result = render(source, CALLED, RESULT).split()

    assert call == result
    assert len(call) == 9


def test_a_template_that_takes_no_system_message_gets_it_with_the_first_question() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )

    assert not ChatTemplate(source).capabilities.system
    assert render(source, SYSTEM, HI) == "user: Be brief.\n\nHi & <b>\n"
    assert render(source, SYSTEM) == "user: Be brief.\n"


def test_a_template_that_runs_through_its_tools_regardless_is_given_none() -> None:
    assert render("{% for t in tools %}x{% endfor %}ok", HI) == "ok"
    assert render("{{ tools is none }}", HI) == "True"


def test_what_the_template_refuses_is_the_clients_error() -> None:
    source = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}ok"

    assert render(source, HI) == "ok"
    with pytest.raises(InvalidRequest, match="one turn only") as caught:
        render(source, HI, HI)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    ["{{ messages[7].content.x }}", "{{ 1 // 0 }}", "{{ 'a' + 1 }}", "{{ {}.get() }}",
     "{{ messages|map('nothing')|list }}", "{% include 'other' %}", "{{ messages[0].content() }}"],
)  # fmt: skip
def test_a_mistake_of_the_template_is_told_and_is_no_raw_exception(source: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot render these messages"):
        render(source, HI)


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ x|no_such_filter }}", "{% endfor %}", "{{ " + "(" * 5000, "x" * (1 << 18)],
)
def test_a_template_that_does_not_compile_fails_chats_only(source: str) -> None:
    template = ChatTemplate(source)

    with pytest.raises(ModelLoadFailed, match="cannot be used"):
        template.render(Chat((HI,)))
    assert not template.capabilities.system


# ---- templates of people who mean harm

INJECTIONS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__closure__ }}",
    "{{ messages.__class__ }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set x = dict.__base__.__subclasses__ %}{{ x() }}",
    "{{ joiner.__init__.__globals__['__builtins__']['eval']('1') }}",
]


@pytest.mark.parametrize("source", INJECTIONS)
def test_no_template_reaches_into_python(source: str) -> None:
    template = ChatTemplate(source)
    try:
        prompt = template.render(Chat((HI,)))
    except (InvalidRequest, ModelLoadFailed):
        return
    assert prompt == ""  # undefined


BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ 2 ** (10**9) }}",
    "{{ [0] * 10**9 }}",
    "{% set n = namespace(s=9) %}{% for i in range(60) %}{% set n.s = n.s ** 60 %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{% set n = namespace(s=['a']) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set n = namespace(s=2) %}{% for i in range(60) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s.replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s|replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = [n.s, n.s]|join(n.s) %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ 'a\n'|indent(10**9) }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_no_template_runs_away(source: str) -> None:
    started = time.thread_time()
    template = ChatTemplate(source)
    for _ in range(2):
        with pytest.raises(ModelLoadFailed, match="it (takes too long|makes too much)|recursion"):
            template.render(Chat((HI,)))

    assert time.thread_time() - started < 1.5


def test_braces_within_a_message_are_no_bomb() -> None:
    source = "{{ messages[0].content.split('x')[0] }}"

    assert render(source, Message("user", '{"a": {"b": {}}}')) == '{"a": {"b": {}}}'


def test_a_long_conversation_is_no_bomb() -> None:
    turns = tuple(Message("user" if n % 2 else "assistant", "x" * 500) for n in range(4000))

    assert len(render(THINKER, *turns)) > 2_000_000


def test_loops_know_where_they_are_and_can_be_left() -> None:
    source = (
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} "
        "{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}"
        "{% for a, b in [(1, 2)] if a %}{{ a }}{{ b }}{% else %}none{% endfor %}"
        "{% for m in messages[::-1] %}{{ loop.previtem is defined }}{% endfor %}"
    )

    assert render(source, HI, HI, HI) == "1/3False 2/3False 12FalseTrueTrue"


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{{ messages[0].content }}", "Hi"),
        ("{{ messages[0].nothing is defined }}", "False"),
        ("{{ messages[0].nothing }}|", "|"),
        # What a dictionary can do comes before what is in it.
        ("{{ messages[0].items() | length }}", "2"),
        ("{% set ns = namespace(a='b', c=none) %}{{ ns.a }}{{ ns.c is none }}", "bTrue"),
        ("{% set ns = namespace(f='{0.__class__}'.format) %}{{ ns.f(1) }}|", "|"),
        ("{% set ns = namespace(a=1) %}{{ ns.d is defined }}", "False"),
        ("{{ messages[0].__class__ is defined }}", "False"),
    ],
)
def test_a_point_finds_a_key_or_what_a_thing_can_do(source: str, prompt: str) -> None:
    assert ChatTemplate(source).render(Chat((Message("user", "Hi"),))) == prompt


def test_marks_for_training_are_transparent() -> None:
    assert render("a{% generation %}b{% endgeneration %}c", HI) == "abc"


def test_templates_may_build_lists() -> None:
    assert render("{% set x = [] %}{% set _ = x.append(1) %}{{ x }}", HI) == "[1]"
    assert render("{{ messages|map(attribute='role')|tojson }}", HI, HI) == '["user", "user"]'
    assert render("{{ '<b>'|safe + '<i>' }}", HI) == "<b><i>"
