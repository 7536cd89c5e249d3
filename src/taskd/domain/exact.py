"""JSON whose numbers stay as they were written.

Python's decoder makes a float of 12345678901234567890123.5, which has other digits, and infinity of 1e400. What is only passed
on (payloads, results, values of settings) must not change on its way.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NoReturn

BOM = "\ufeff"


class Number(float):
    """A number that Python would write in another way: a float with the text that it came from."""

    text: str

    def __new__(cls, text: str) -> Number:
        """The float that `text` comes nearest to."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.text,)

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


class JsonText:
    """JSON that was checked, and is passed on as it was written. It equals the value that it stands for."""

    __slots__ = ("text", "value")

    def __init__(self, text: str) -> None:
        """Raises ValueError, or RecursionError, for what is no JSON."""
        self.text = text.removeprefix(BOM).strip()
        self.value = loads(self.text)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, JsonText) else other))

    __hash__ = None  # type: ignore[assignment]  # the value may be a list

    def __repr__(self) -> str:
        return self.text


def loads(text: str | bytes) -> Any:
    """The value of this JSON, with a Number wherever a float or int would be written in another way. Raises ValueError."""
    return json.loads(text, parse_float=_real, parse_int=_whole, parse_constant=_no_constant)


def dumps(value: Any, *, indent: int | None = None, sort_keys: bool = False, ascii_only: bool = False) -> str:
    """Strict JSON as json.dumps writes it, but each Number and JsonText as it came. Raises TypeError or ValueError."""
    quote = encode_basestring_ascii if ascii_only else encode_basestring

    def written(value: Any, level: int) -> str:
        if isinstance(value, dict):
            items = sorted(value.items()) if sort_keys else value.items()
            pairs = [f"{quote(_key(key))}: {written(held, level + 1)}" for key, held in items]
            return _enclosed("{}", pairs, indent, level)
        if isinstance(value, list | tuple):
            return _enclosed("[]", [written(held, level + 1) for held in value], indent, level)
        if isinstance(value, str):
            return quote(value)
        if isinstance(value, Number | JsonText):
            return value.text
        return json.dumps(value, allow_nan=False)

    return written(value, 0)


def _enclosed(brackets: str, parts: list[str], indent: int | None, level: int) -> str:
    if not parts or indent is None:
        return brackets[0] + ", ".join(parts) + brackets[1]
    inner, outer = "\n" + " " * (indent * (level + 1)), "\n" + " " * (indent * level)
    return brackets[0] + inner + ("," + inner).join(parts) + outer + brackets[1]


def _key(key: Any) -> str:
    """A name in an object, as json.dumps writes what is no text."""
    return key if isinstance(key, str) else next(iter(json.loads(json.dumps({key: None}))))


def _real(text: str) -> float:
    number = float(text)
    return number if repr(number) == text else Number(text)


def _whole(text: str) -> float | int:
    try:
        number = int(text)
    except ValueError:  # more digits than Python converts
        return Number(text)
    return Number(text) if text == "-0" else number


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are no JSON, whatever the decoder thinks."""
    raise ValueError(f"{name} is no JSON")
