"""How each API is doing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.api_ledger import APIS, MINUTE, Account, ApiLedger


def account(codes: list[int], seconds: float = 0.1) -> Account:
    made = Account()
    for code in codes:
        made.add(code, seconds, 1000.0)
    return made


def test_without_traffic_nothing_is_known() -> None:
    made = Account()
    assert (made.status, made.success_rate, made.mean_seconds) == ("unknown", None, None)
    assert made.last_minute(0.0) == 0


def test_more_than_a_twentieth_failed_is_a_warning_and_than_a_fifth_an_error() -> None:
    assert account([200] * 19 + [500]).status == "healthy"
    assert account([200] * 18 + [500, 400]).status == "warning"
    assert account([200] * 15 + [429] * 5).status == "error"


def test_an_api_that_is_slow_is_not_healthy() -> None:
    assert account([200], seconds=5.1).status == "warning"


def test_a_client_that_leaves_is_neither_a_success_nor_a_failure() -> None:
    made = account([499, 200])
    assert (made.total, made.cancelled, made.success_rate) == (2, 1, 1.0)
    assert account([499]).status == "unknown"


def test_requests_are_counted_for_a_minute() -> None:
    made = Account()
    for now in (0.2, 0.9, 30.0, 59.0):
        made.add(200, 0.1, now)
    assert made.last_minute(59.9) == 4
    assert made.last_minute(60.5) == 2
    assert made.last_minute(500.0) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["openai", "ollama", "vllm", "tgi", "anthropic", "native"]),
            st.sampled_from(
                ["/v1/chat/completions", "/api/chat", "/api/generate", "/v1/completions", "/x"]
            ),
            st.sampled_from([200, 400, 499, 500]),
            st.floats(0, 1e6),
        )
    )
)
def test_every_answer_is_in_one_row(answers: list[tuple[str, str, int, float]]) -> None:
    times = iter([at for *_, at in answers])
    ledger = ApiLedger(lambda: next(times))
    for dialect, endpoint, code, _ in answers:
        ledger.on_answer(dialect, endpoint, code, 0.1)

    assert sum(made.total for made in ledger.accounts.values()) == len(answers)
    assert list(ledger.accounts) == list(APIS)
    assert all(len(made.seconds) <= MINUTE for made in ledger.accounts.values())
