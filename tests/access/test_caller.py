from __future__ import annotations

from starlette.requests import Request

from service.access.caller import CALLER, EVERY, Caller, Scope, caller


def test_without_keys_whoever_asks_is_local_and_may_do_everything() -> None:
    found = caller(Request({"type": "http", "client": ("127.0.0.1", 40000)}))

    assert found == Caller("local", EVERY, "127.0.0.1")


def test_with_keys_it_is_whom_the_gate_let_in() -> None:
    known = Caller("ci", frozenset({Scope.READ}), "10.0.0.7")

    assert caller(Request({"type": "http", CALLER: known})) is known


def test_no_scope_holds_another() -> None:
    for scope in Scope:
        only = Caller("x", frozenset({scope}), "")
        assert [other for other in Scope if only.may({other})] == [scope]


def test_a_unix_socket_has_no_address() -> None:
    assert caller(Request({"type": "http", "client": None})).address == ""
