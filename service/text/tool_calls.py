"""Which syntax a model writes tool calls in: all that are known, and the one of a template.

A further syntax is a row in one of the tables, with a reader of its own where none fits.
"""

from __future__ import annotations

from functools import lru_cache

from service.text.formats_literal import LITERAL
from service.text.formats_named import DEEPSEEK_V31, NAMED
from service.text.formats_objects import OBJECTS
from service.text.formats_tagged import TAGGED
from service.text.tool_format import ToolFormat
from service.text.tool_words import needs_words

# The first that fits counts, so the more particular ones come first.
FORMATS = (*NAMED, *TAGGED, *LITERAL, *OBJECTS)


@lru_cache(maxsize=256)
def tool_format(template_source: str) -> ToolFormat | None:
    """The syntax of a model with this chat template; None if it shows the model no tools,
    and nobody knows how to tell it of them."""
    if needs_words(template_source):
        return DEEPSEEK_V31
    if "tools" not in template_source:
        return None
    for known in FORMATS:
        if known.spoken_by(template_source):
            return known
    return None
