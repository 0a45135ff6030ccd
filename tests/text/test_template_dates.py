from __future__ import annotations

from datetime import datetime

from service.generation import Chat, Message
from service.text.template import ChatTemplate

HI = Message("user", "x")


def test_a_template_that_reads_the_date_is_told_the_day_of_the_request() -> None:
    today = [datetime(2025, 3, 1)]
    source = (
        "{% if not date_string is defined %}long ago{% endif %}{{ date_string }}, {{ datetime }}"
    )
    template = ChatTemplate(source, now=lambda: today[0])

    today[0] = datetime(2025, 3, 2)

    assert template.render(Chat((HI,))) == "02 Mar 2025, Mar 02 2025"


def test_a_request_may_name_another_day() -> None:
    template = ChatTemplate("{{ date_string }}", now=lambda: datetime(2025, 3, 1))

    prompt = template.render(Chat((HI,), template_variables={"date_string": "today"}))

    assert prompt == "today"
