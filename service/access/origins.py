"""Which pages may ask from within a browser.

A page that a browser has open somewhere else can send requests to this server, and needs no answer
to have done harm: it changes models, or lets the GPUs work for it. Browsers name the page's origin
with each request that is no plain GET, and no page can make them lie; programs name none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

# Of programs that are installed and show themselves by a browser's means, as Ollama admits them. No
# page of the web can have one. `null` is none of them: any page can get it, from within a frame.
PROGRAMS: Final = frozenset({"app", "file", "tauri", "vscode-file", "vscode-webview"})
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def foreign(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the page is one of somebody else's. `host`: that the request names, which is this
    server's. allowed: further origins, exactly."""
    if origin in allowed:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return True
    if parts.scheme in PROGRAMS:
        return False
    return parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower()
