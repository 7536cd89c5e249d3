"""JSON that everything behind the API can store and read back.

A payload travels as the client wrote it. `msgspec.Raw` lets bytes through that are no UTF-8 and numbers that no float holds;
PostgreSQL refuses NUL and lone surrogates, and deep nesting exhausts the stack of whoever decodes it. So all of that is
refused here, where the client still listens.
"""

from __future__ import annotations

import re

import msgspec

from taskd.api.problems import FieldError, invalid, malformed

#: How deep arrays and objects may be nested in a payload.
MAX_DEPTH = 200

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
#: A NUL escape; an even number of backslashes before it are escaped backslashes, an odd one escapes its own.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(b for b in range(256) if b not in b"[]{}")

_anything = msgspec.json.Decoder()


def check_text(body: bytes) -> None:
    """Raises a 400 Problem unless `body` is UTF-8."""
    if body.isascii():
        return
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 (byte {error.start})") from None


def explain(error: msgspec.DecodeError, body: bytes) -> str:
    """What is malformed about `body`, in words."""
    text = str(error)
    if "truncated" in text or "surrogate" in text:
        hint = ", or has an unpaired surrogate escape such as \\ud800" if _SURROGATE.search(body) else ""
        return f"malformed JSON: it ends too early{hint}"
    return f"malformed JSON: {text.removeprefix('JSON is malformed: ')}"


def has_nul(text: bytes) -> bool:
    """True if some string of this JSON contains the character U+0000."""
    return rb"\u0000" in text and _NUL.search(text) is not None


def check_value(value: msgspec.Raw, field: str) -> None:
    """Raises a 422 Problem for `field` unless `value` can be stored and read back. Its syntax was checked before."""
    text = bytes(value)
    if has_nul(text):
        raise invalid(FieldError(field, "must not contain the NUL character (\\u0000): PostgreSQL cannot store it"))
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth_exceeds(text, MAX_DEPTH):
        raise invalid(too_deep(field))
    try:
        _anything.decode(text)
    except msgspec.ValidationError:
        raise invalid(FieldError(field, "has a number that is out of range: the largest is about 1.8e308")) from None
    except msgspec.DecodeError as error:
        raise malformed(f"{field}: {explain(error, text)}") from None


def too_deep(field: str) -> FieldError:
    """The error of a value that is nested too deeply."""
    return FieldError(field, f"is nested too deeply: at most {MAX_DEPTH} levels of arrays and objects")


def _depth_exceeds(text: bytes, limit: int) -> bool:
    """Whether valid JSON is nested deeper than `limit`: each round takes the innermost brackets away."""
    brackets = _STRING.sub(b"", text).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
