"""docs/clients.md: what each client can do with the service, as its own run said.

    python -m tests.clients.table

It reads every `build/clients/*.jsonl`, one file a client, whatever language the client is written
in. A line is what `probing.Outcome` holds.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from itertools import groupby

from tests.clients.probing import COLUMNS, Outcome
from tests.clients.run import LINES, ROOT

PAGE = ROOT / "docs/clients.md"

ABOVE = """\
# Clients

Each of these clients was run, unchanged, against the service with its demo model. `make test-clients` runs
them all and writes this page from what they said; `make test` runs those of them that are marked `always`
in `tests/clients/`. The versions are those of {date}.

**Yes** is an answer that was looked at, at every path under "at": text, ids and token counts; the name and
the arguments of a call; JSON that was held to a schema; a thought apart from its answer; vectors of length
one, alike where the texts are; the client's own exception with the server's status and words; and after
"abort", where a client leaves a stream, one more cancelled request in `/metrics` and a free slot. A dash is
what the client itself cannot do, for the reason below.

"""
BELOW = """
## Worth knowing

- `langchain-openai`: give `OpenAIEmbeddings` the option `check_embedding_ctx_length=False`, or it sends
  the ids of a tokenizer that is OpenAI's and not the model's.
- `langchain-openai` looks for the code of a prompt that is too long in a place where OpenAI's client no
  longer puts it, so the exception is a `BadRequestError` and not LangChain's `ContextOverflowError`.
- `instructor`: only its async client gives the parts of a stream as they come.
- `text-generation` cannot stream chats: it trips over the `[DONE]` that ends them, TGI's own as well.
- `litellm` needs the package `mcp` for tools, and does not ask for it.
"""


def main() -> None:
    files = sorted(LINES.glob("*.jsonl"))
    outcomes = [
        Outcome(**json.loads(line)) for file in files for line in file.read_text().splitlines()
    ]
    last = max(file.stat().st_mtime for file in files)
    PAGE.write_text(page(outcomes, datetime.datetime.fromtimestamp(last, datetime.UTC).date()))


def page(outcomes: Iterable[Outcome], date: datetime.date) -> str:
    rows = [("client", "version", "at", *COLUMNS), ("---",) * (3 + len(COLUMNS))]
    notes: list[str] = []
    by_client = sorted(outcomes, key=lambda outcome: outcome.client.lower())
    for client, given in groupby(by_client, key=lambda outcome: outcome.client):
        own = list(given)
        mounts = list(dict.fromkeys(outcome.mount for outcome in own))
        cells = [cell([o for o in own if o.column == c], len(mounts), notes) for c in COLUMNS]
        rows.append((client, own[0].version, " ".join(f"`{m}`" for m in mounts), *cells))
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    below = "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1))
    return ABOVE.format(date=date) + table + ("\n" + below if below else "") + BELOW


def cell(outcomes: Sequence[Outcome], mounts: int, notes: list[str]) -> str:
    """Of one column of one client; a reason that is new is added to `notes`."""
    if len(outcomes) < mounts:
        return "not run"
    marks = []
    for outcome in outcomes:
        if outcome.result == "ok":
            continue
        everywhere = {other.why for other in outcomes} == {outcome.why}
        note = outcome.why if everywhere else f"At `{outcome.mount}`: {outcome.why}"
        if note not in notes:
            notes.append(note)
        word = "–" if outcome.result == "absent" else "**no**"
        marks.append(f"{word} ({notes.index(note) + 1})")
    some = ["yes"] if any(outcome.result == "ok" for outcome in outcomes) else []
    return ", ".join(dict.fromkeys(some + marks))


if __name__ == "__main__":
    main()
