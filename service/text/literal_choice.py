"""A constraint to one of some texts: the labels of a classification, say."""

from __future__ import annotations

from service.errors import InvalidRequest
from service.text.gbnf_rules import GbnfRules

MOST = 1024
LONGEST = 1024
_LONGEST_OF_ALL = 64 * 1024


def choice_expression(texts: tuple[str, ...], rules: GbnfRules) -> str:
    """One of `texts`, as a GBNF expression. Raises InvalidRequest, with the parameter of `rules`."""
    check_choice(texts, rules.param)
    return rules.words(texts)


def check_choice(texts: tuple[str, ...], param: str) -> None:
    """Raises InvalidRequest(param) for texts that cannot be chosen between."""
    why = ""
    if not texts:
        why = "there is nothing to choose from"
    elif "" in texts:
        why = "an empty text cannot be chosen"
    elif len(texts) > MOST:
        why = f"there are more than {MOST} texts"
    elif max(map(len, texts)) > LONGEST or sum(map(len, texts)) > _LONGEST_OF_ALL:
        why = f"a text is longer than {LONGEST}, or all of them than {_LONGEST_OF_ALL} characters"
    elif any(char == "\0" or "\ud800" <= char <= "\udfff" for text in texts for char in text):
        why = "a text holds a character that no answer can contain"
    if why:
        raise InvalidRequest(f"The choice cannot be used: {why}", param=param)
