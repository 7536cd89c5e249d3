"""Text and JSON that a result can store: decoded, checked, and shortened to a number of bytes."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

#: How deep the JSON of a result may be nested: 200 levels, of which the result's own dict is one.
MAX_DEPTH = 199

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def text(data: bytes) -> str:
    """Return the bytes as text that PostgreSQL takes: bytes that are not UTF-8, and NUL, become U+FFFD."""
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def size(value: Any) -> int:
    """Return the number of bytes of the value as JSON of a result."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def shortened(whole: str, room: int) -> str:
    """Return the longest beginning of a text whose JSON has at most `room` bytes."""
    encoded = json.dumps(whole, ensure_ascii=False).encode()
    if len(encoded) <= room:
        return whole
    start = encoded[: max(room - 1, 1)].decode("utf-8", "ignore")
    for left_out in range(len(r"\u0000")):
        # The cut may be within an escape.
        try:
            return str(json.loads(f'{start[: len(start) - left_out]}"'))
        except ValueError:
            continue
    return ""


def strict_json(data: bytes) -> Any:
    """Return the decoded JSON. Raises ValueError or RecursionError for data that is no JSON or cannot be stored as such."""
    value = json.loads(data, parse_constant=_refuse)
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if any(isinstance(item, str | float) and not _storable(item) for item in level):
            raise ValueError("a text or a number in it cannot be stored")
        if not containers:
            return value
        level = []
        for item in containers:
            level += [*item.keys(), *item.values()] if isinstance(item, dict) else item
    raise ValueError("it is nested too deep")


def _storable(item: str | float) -> bool:
    return not _UNSTORABLE.search(item) if isinstance(item, str) else math.isfinite(item)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
