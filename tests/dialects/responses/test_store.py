from __future__ import annotations

import pytest

from service.dialects.responses import store as responses_store
from service.dialects.responses.store import KEPT_SECONDS, ResponseNotFound, ResponseStore
from service.errors import InvalidRequest
from service.generation import Message

SAID = (Message("user", "hi"), Message("assistant", "hello"))


def test_a_response_can_be_asked_for_gone_on_from_and_deleted() -> None:
    store = ResponseStore()
    store.put({"id": "resp_1", "status": "completed"}, SAID)

    assert store.get("resp_1")["status"] == "completed"
    assert store.conversation("resp_1") == SAID
    assert store.delete("resp_1")
    assert not store.delete("resp_1")
    with pytest.raises(ResponseNotFound) as caught:
        store.get("resp_1")
    assert (caught.value.status, caught.value.message) == (
        404,
        "Response with id 'resp_1' not found.",
    )


def test_nothing_goes_on_from_a_response_that_has_not_ended() -> None:
    store = ResponseStore()
    store.put({"id": "resp_1", "status": "in_progress"})

    with pytest.raises(InvalidRequest) as caught:
        store.conversation("resp_1")
    assert caught.value.param == "previous_response_id"


def test_responses_are_forgotten_after_a_while() -> None:
    now = 0.0
    store = ResponseStore(clock=lambda: now)
    store.put({"id": "resp_1", "status": "completed"}, SAID)
    now = KEPT_SECONDS - 1
    assert store.get("resp_1")
    now = KEPT_SECONDS

    with pytest.raises(ResponseNotFound):
        store.get("resp_1")


def test_too_many_push_the_oldest_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_store, "MAX_RESPONSES", 2)
    store = ResponseStore()
    for number in range(3):
        store.put({"id": f"resp_{number}", "status": "completed"}, SAID)

    assert [store.status(f"resp_{number}") for number in range(3)] == [
        None,
        "completed",
        "completed",
    ]


def test_too_much_pushes_the_oldest_out_and_what_never_fits_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses_store, "MAX_BYTES", 1000)
    store = ResponseStore()
    store.put({"id": "resp_1", "status": "completed", "text": "x" * 500})
    store.put({"id": "resp_2", "status": "completed", "text": "x" * 500})
    store.put({"id": "resp_3", "status": "completed", "text": "x" * 5000})

    assert [store.status(f"resp_{number}") for number in (1, 2, 3)] == [None, "completed", None]
