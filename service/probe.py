"""python -m service.probe [URL]: exit code 0 where the service answers, 1 where it does not.

For a container's health check, which has neither curl nor a shell to count on. Without a URL it
asks the port that the service in the same container was told to listen on. LLM_API_KEY is shown
where it is set: all but /health/live asks for one where there are keys.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Final

TIMEOUT_SECONDS: Final = 4


def main(arguments: Sequence[str]) -> int:
    given = arguments[0] if arguments else own()
    # A proxy of the environment is for going out, not for asking oneself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked(given), timeout=TIMEOUT_SECONDS) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError, ValueError):
        return 1


def asked(url: str) -> urllib.request.Request:
    key = os.environ.get("LLM_API_KEY")
    return urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})


def own() -> str:
    return f"http://127.0.0.1:{os.environ.get('LLM_PORT') or 11436}/health/live"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
