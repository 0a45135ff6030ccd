"""Reading a request's JSON, key by key, with errors that name the key as `messages.0.role`.

null is the same as absent. What nobody read is known afterwards, so that a client can be told
which of its parameters had no effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, TypeVar, cast

from service.errors import InvalidRequest

C = TypeVar("C", bound=str)

INT64: Final = 2**63 - 1
UINT64: Final = 2**64 - 1
# Characters of a model's name, which may be the path of a file.
LONGEST_MODEL: Final = 512


class Fields:
    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self.values = values
        self.path = path
        self._read: set[str] = set()
        self._objects: dict[str, Fields] = {}

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def bad(self, key: str, message: str) -> InvalidRequest:
        """`raise fields.bad("n", "must be …")`: the message begins with the field's own name."""
        name = self.name(key)
        return InvalidRequest(f"{name}: {message}", param=name)

    def get(self, key: str) -> Any:
        self._read.add(key)
        return self.values.get(key)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def skip(self, keys: Collection[str]) -> None:
        """These have no effect and are not worth telling."""
        self._read.update(keys)

    def whole(self) -> dict[str, Any]:
        """Everything, where the keys are the client's own."""
        self._read.update(self.values)
        return self.values

    def altered(self, values: dict[str, Any]) -> Fields:
        """With other values; what is read of it is read of this."""
        other = Fields(values, self.path)
        other._read, other._objects = self._read, self._objects
        return other

    def unread(self) -> list[str]:
        """Also of objects that were looked into, as `stream_options.x`; not of arrays' elements."""
        names = [
            key for key, value in self.values.items() if key not in self._read and value is not None
        ]
        for key, inner in self._objects.items():
            names += [f"{key}.{name}" for name in inner.unread()]
        return names

    def text(self, key: str, *, longest: int | None = None) -> str | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(key, f"must be a string, not {kind(value)}")
        if longest is not None and len(value) > longest:
            raise self.bad(key, f"must not be longer than {longest} characters")
        return value

    def model(self) -> str:
        """The client's name for a model; none is the model that there is."""
        return self.text("model", longest=LONGEST_MODEL) or ""

    def claim(self, key: str) -> bool | None:
        """A boolean that may be absent."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(key, f"must be true or false, not {kind(value)}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.claim(key)
        return default if value is None else value

    def integer(self, key: str, *, low: int = -INT64, high: int = INT64) -> int | None:
        value = self.get(key)
        return None if value is None else integer(self, key, value, low, high)

    def number(self, key: str, *, low: float = -1e30, high: float = 1e30) -> float | None:
        value = self.get(key)
        return None if value is None else number(self, key, value, low, high)

    def choice(self, key: str, words: Collection[C]) -> C | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or value not in words:
            raise self.bad(key, f"must be one of {', '.join(words)}")
        return cast(C, value)

    def object(self, key: str) -> Fields | None:
        """The same one each time, so that it is known what nobody read of it."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.bad(key, f"must be an object, not {kind(value)}")
        if key not in self._objects:
            self._objects[key] = Fields(value, self.name(key))
        return self._objects[key]

    def list(self, key: str, *, longest: int | None = None) -> list[Any] | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.bad(key, f"must be an array, not {kind(value)}")
        if longest is not None and len(value) > longest:
            raise self.bad(key, f"must not have more than {longest} elements")
        return value

    def objects(self, key: str) -> Iterator[Fields]:
        """The elements of an array of objects."""
        for index, value in enumerate(self.list(key) or ()):
            if not isinstance(value, dict):
                raise self.bad(f"{key}.{index}", f"must be an object, not {kind(value)}")
            yield Fields(value, self.name(f"{key}.{index}"))

    def integers(self, key: str, *, low: int = 0, longest: int = 4096) -> tuple[int, ...]:
        values = self.list(key, longest=longest) or ()
        return tuple(
            integer(self, f"{key}.{index}", value, low, 2**31 - 1)
            for index, value in enumerate(values)
        )

    def strings(self, key: str, *, most: int, longest: int) -> tuple[str, ...]:
        """One string, or an array of them."""
        value = self.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise self.bad(key, f"must be a string or an array of strings, not {kind(value)}")
        if len(value) > most:
            raise self.bad(key, f"must not have more than {most} elements")
        for index, element in enumerate(value):
            if not isinstance(element, str):
                raise self.bad(f"{key}.{index}", f"must be a string, not {kind(element)}")
            if len(element) > longest:
                raise self.bad(f"{key}.{index}", f"must not be longer than {longest} characters")
        return tuple(value)


def integer(fields: Fields, key: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise fields.bad(key, f"must be an integer, not {kind(value)}")
    if not low <= value <= high:
        raise fields.bad(key, f"must be {span(low, high, value)}, not {value}")
    return value


def number(fields: Fields, key: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.bad(key, f"must be a number, not {kind(value)}")
    if not low <= value <= high:
        raise fields.bad(key, f"must be {span(low, high, value)}, not {value}")
    return float(value)


def span(low: float, high: float, value: float) -> str:
    """What `value` is outside of; ends that only the format sets are left out."""
    if high >= 1e30 or high in (INT64, UINT64):
        return f"at least {low}" if value < low else f"at most {high}"
    return f"between {low} and {high}"


def kind(value: Any) -> str:
    names = {str: "a string", bool: "a boolean", dict: "an object", list: "an array"}
    return names.get(type(value), "null" if value is None else "a number")
