"""Names of models as Ollama writes and checks them, and the digests of its blobs.

    [host/][namespace/]model[:tag]      the host with `scheme://` in front or without
    host        1 to 350 of A-Z a-z 0-9 _ - . :
    namespace   1 to 80 of A-Z a-z 0-9 _ -
    model, tag  1 to 80 of A-Z a-z 0-9 _ - .        no part begins with - . or :

What is left out is `registry.ollama.ai`, `library`, `latest`. On disk a name is the path
`host/namespace/model/tag`; since no part can be empty, begin with a dot or hold a slash, that path
stays where it belongs. The rules are those of `types/model/name.go`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
TAG: Final = "latest"
# Where a separator promises a part that is not there. No part may begin with "!".
MISSING: Final = "!MISSING!"

_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
# Of a blob, in manifests and as a file name; stores of before 2024 have ":" in file names too.
DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
# HuggingFace's cache has the bare digits.
_BLOB: Final = re.compile(r"(?:sha256[:-])?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Name:
    host: str = ""
    namespace: str = ""
    model: str = ""
    tag: str = ""
    scheme: str = ""

    @property
    def valid(self) -> bool:
        """Every part is there and is one."""
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    @property
    def path(self) -> str:
        """Below `manifests`. Raises ValueError for a name that is not valid."""
        if not self.valid:
            raise ValueError("the name is not valid")
        return "/".join((self.host, self.namespace, self.model, self.tag))

    @property
    def shortest(self) -> str:
        """As Ollama lists it: without the registry and the library that are understood."""
        if self.host.lower() != HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    def __str__(self) -> str:
        written = "".join(f"{part}/" for part in (self.host, self.namespace) if part) + self.model
        return f"{written}:{self.tag}" if self.tag else written


def parse(text: str) -> Name:
    """With the parts that are understood; whether it is valid is the name's to say."""
    name = parse_bare(text)
    return replace(
        name,
        host=name.host or HOST,
        namespace=name.namespace or NAMESPACE,
        tag=name.tag or TAG,
    )


def parse_bare(text: str) -> Name:
    """Only what is written. Parts are cut off from the end, so what is too much makes the host bad."""
    tag = ""
    if text.rfind(":") > text.rfind("/"):
        text, tag = _cut(text, ":")
    if "/" not in text:
        return Name(model=text, tag=tag)
    text, model = _cut(text, "/")
    if "/" not in text:
        return Name(namespace=text, model=model, tag=tag)
    text, namespace = _cut(text, "/")
    scheme, separator, host = text.partition("://")
    if not separator:
        scheme, host = "", text
    return Name(host, namespace, model, tag, scheme)


def from_path(parts: tuple[str, ...]) -> Name | None:
    """Of a manifest below `manifests`; None where that is no name's path."""
    if len(parts) != 4:
        return None
    name = Name(*parts)
    return name if name.valid else None


def digest_in(path: str) -> str | None:
    """The SHA-256 that a blob's file name tells of its bytes, in lower case; None of other files."""
    match = _BLOB.fullmatch(path.rpartition("/")[2])
    return match[1].lower() if match else None


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or MISSING, after or MISSING
