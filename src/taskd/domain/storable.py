"""JSON of results and checkpoints, as strict as the database: for workers, and for tests that run tasks without one."""

from __future__ import annotations

import json
import operator
import re
import sys
from collections.abc import Callable
from typing import Any, SupportsIndex

import msgspec

from taskd.domain.errors import Unstorable


def _whole(value: Any) -> int:
    """Return a whole number that is no int, such as numpy's, as an int. Raises TypeError in the encoder's words."""
    if not isinstance(value, SupportsIndex):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return operator.index(value)


# The standard encoder is strict where msgspec is kind: NaN, bytes, dates and objects are errors, not null or text.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_whole).encode
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_CONTAINERS = (dict, list, tuple)
_HINT = " (a return annotation that names its type lets more than JSON's own types be stored)"

#: How deep lists and dicts of a result may be nested: its reader has a recursion limit too.
MAX_DEPTH = 200
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"

Encode = Callable[[Any], bytes]


def to_json(
    value: Any, limit: int, subject: str = "the result", encode: Encode | None = None, *, strict_keys: bool = True
) -> bytes:
    """Return the value as JSON of at most `limit` bytes. Raises Unstorable.

    `encode` knows types that are not JSON's own; it raises TypeError or ValueError. `strict_keys`: a dict's keys must be texts.
    `subject` names the value in errors.
    """
    if isinstance(value, _CONTAINERS):
        _check(value, subject, keys=strict_keys)
    try:
        text = b"null" if value is None else encode(value) if encode is not None else _encode(value).encode()
    except UnicodeEncodeError:
        raise Unstorable(f"{subject} is not JSON: a string in it has a lone surrogate") from None
    except RecursionError:
        raise Unstorable(f"{subject} is not JSON: {_TOO_DEEP}") from None
    except (TypeError, ValueError) as error:
        hint = _HINT if encode is None else ""
        raise Unstorable(f"{subject} is not JSON: {_reason(error, hint)}") from None
    if len(text) > limit:
        raise Unstorable(f"{subject} has {len(text)} bytes, but at most {limit} are stored (worker.max_result_bytes)")
    if b"\\u0000" in text and _NUL.search(text):
        raise Unstorable(f"{subject} cannot be stored: a string in it has a NUL character")
    if not strict_keys and not isinstance(value, _CONTAINERS):
        _check([msgspec.json.decode(text)], subject)
    return text


def plainly(plain: Callable[[Any], Any]) -> Encode:
    """Return an encoder that is as strict as JSON, and asks `plain` for the JSON value of other objects."""
    encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=plain).encode
    return lambda value: encode(value).encode()


def _check(value: Any, subject: str, *, keys: bool = True) -> None:
    """Refuse values that the encoder would change or fail on: it writes the keys 1 and True as texts, and takes any depth."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: dict[int, Any] = {}  # by identity: a shared container is checked once a level
        for container in level:
            if isinstance(container, dict):
                for key in container if keys else ():
                    if not isinstance(key, str):
                        raise Unstorable(f"{subject} is not JSON: {_bad_key(type(key).__name__)}")
                container = container.values()  # noqa: PLW2901 - its keys are checked
            for item in container:
                if isinstance(item, _CONTAINERS):
                    below[id(item)] = item
        if not below:
            return
        level = list(below.values())
    raise Unstorable(f"{subject} is not JSON: {_TOO_DEEP}")


def _bad_key(kind: str) -> str:
    return f"a dict in it has a key of type {kind}, and JSON's keys are strings (convert them, for example with str)"


def _reason(error: Exception, hint: str = "") -> str:
    text = str(error)
    if text.startswith("Exceeds the limit"):
        return f"it has an integer of more than {sys.get_int_max_str_digits()} digits"
    if text.startswith("Out of range float"):
        return "it has a number that is NaN or infinite"
    match = re.fullmatch(r"Object of type (.+) is not JSON serializable", text)
    if match is None:
        return text
    if match[1] == "coroutine":
        hint = " (is an await missing?)"
    return f"it has an object of type {match[1]}{hint}"
