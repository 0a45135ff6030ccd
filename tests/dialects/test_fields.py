from __future__ import annotations

from typing import Any

import pytest

from service.dialects.fields import UINT64, Fields
from service.errors import InvalidRequest


def refusal(read: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        read()
    return caught.value.param, caught.value.message


def test_null_is_the_same_as_absent() -> None:
    fields = Fields({"a": None})

    read: list[Any] = [fields.text, fields.number, fields.integer, fields.claim, fields.object]
    assert [each("a") for each in read] == [None] * 5
    assert fields.flag("a", True) is True
    assert fields.list("a") is None
    assert "a" not in fields


def test_an_error_names_the_field_by_its_whole_path() -> None:
    (message,) = Fields({"messages": [{"role": 1}]}).objects("messages")

    param, sentence = refusal(lambda: message.text("role"))

    assert param == "messages.0.role"
    assert sentence == "messages.0.role: must be a string, not a number"


@pytest.mark.parametrize("value", [True, "1", 1.5, [], {}])
def test_only_an_integer_is_an_integer(value: Any) -> None:
    assert refusal(lambda: Fields({"n": value}).integer("n"))[0] == "n"


@pytest.mark.parametrize("value", [True, "1", [], {}])
def test_only_a_number_is_a_number(value: Any) -> None:
    assert refusal(lambda: Fields({"n": value}).number("n"))[0] == "n"


def test_a_number_out_of_range_is_told_the_range() -> None:
    fields = Fields({"temperature": 2.5, "n": 0})

    assert refusal(lambda: fields.number("temperature", low=0.0, high=2.0))[1] == (
        "temperature: must be between 0.0 and 2.0, not 2.5"
    )
    assert refusal(lambda: fields.integer("n", low=1))[1] == "n: must be at least 1, not 0"


def test_a_number_above_what_64_bits_hold_is_told_so() -> None:
    above = Fields({"n": 2**63})

    assert refusal(lambda: above.integer("n"))[1] == f"n: must be at most {2**63 - 1}, not {2**63}"
    assert above.integer("n", low=0, high=UINT64) == 2**63


def test_one_string_is_a_list_of_one() -> None:
    assert Fields({"stop": "a"}).strings("stop", most=4, longest=9) == ("a",)
    assert Fields({"stop": ["a", "b"]}).strings("stop", most=4, longest=9) == ("a", "b")


@pytest.mark.parametrize("value", [1, {}, ["a", 1], ["a"] * 5, ["a" * 10], "a" * 10])
def test_strings_are_bounded_in_kind_number_and_length(value: Any) -> None:
    param, _ = refusal(lambda: Fields({"stop": value}).strings("stop", most=4, longest=9))

    assert param is not None
    assert param.startswith("stop")


def test_what_nobody_read_is_known() -> None:
    fields = Fields({"a": 1, "b": 2, "c": None, "d": 3})
    fields.integer("a")
    fields.skip({"d"})

    assert fields.unread() == ["b"]


def test_what_nobody_read_of_an_object_is_known_by_its_whole_name() -> None:
    fields = Fields({"a": {"b": {"c": 1, "d": 2}, "e": None, "f": 3}, "g": {"h": 1}})
    for _ in range(2):
        outer = fields.object("a")
        assert outer is not None
        inner = outer.object("b")
        assert inner is not None
        inner.integer("c")
    given = fields.object("g")
    assert given is not None

    assert given.whole() == {"h": 1}
    assert fields.unread() == ["a.f", "a.b.d"]


def test_what_is_read_with_other_values_is_read() -> None:
    fields = Fields({"a": [1], "b": 2, "c": {"d": 1, "e": 2}})
    other = fields.altered({**fields.values, "a": 1})
    inner = other.object("c")
    assert inner is not None
    inner.get("d")

    assert other.integer("a") == 1
    assert fields.unread() == ["b", "c.e"]
