"""What no grammar can be made of, before anybody knows which field it was in."""

from __future__ import annotations


class Refused(Exception):
    """Why it cannot be used, as the end of a sentence."""
