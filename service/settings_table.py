"""`python -m service.settings_table`: the settings as the Markdown table of docs/settings.md."""

from __future__ import annotations

import sys
from typing import Any

from service.settings import Settings
from service.settings_needs import need


def table() -> str:
    rows = ["| key | default | a change needs | meaning |", "|---|---|---|---|"]
    for key, field in Settings.model_fields.items():
        default = "" if field.default_factory else shown(field.default)
        rows.append(f"| `{key}` | {default} | {need(key)} | {field.description} |")
    return "\n".join(rows) + "\n"


def shown(value: Any) -> str:
    if value in (None, (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(table())
