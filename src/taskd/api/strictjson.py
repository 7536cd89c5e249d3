"""Checks that JSON can be stored and read back by everything behind the API.

A payload is stored as the client wrote it. `msgspec.Raw` accepts bytes that are not UTF-8 and numbers beyond a float's range.
PostgreSQL refuses NUL and unpaired surrogates, and deep nesting exhausts the stack of a decoder. All of these are refused
here, while the client waits for the response. Each check is one pass over the text. A large text is checked in pieces, so that
it does not delay other requests.
"""

from __future__ import annotations

import re
from itertools import accumulate
from math import isinf

import msgspec

from taskd.api.problems import FieldError, invalid, malformed
from taskd.api.time_slice import TimeSlice

#: The deepest nesting of arrays and objects in a payload.
MAX_DEPTH = 200
#: Payloads up to this size are decoded to check them, which is quick but makes an object of each value.
SMALL = 4096
#: Payloads up to this size are decoded even if they have numbers near the end of a float's range: each takes msgspec 10 µs.
TINY = 256
#: The longest number that `float` parses: it is quick near the end of its range. It accepts longer ones that msgspec refuses.
SHORT = 40
#: Bytes that are checked before other requests get a turn.
PIECE = 64 * 1024

_STRING = re.compile(rb'"[^"]*"')
_NUMBER = re.compile(rb"[0-9eE+.\-]*")
_HIGH = re.compile(rb"[eE]\+?[0-9]{3}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OTHERS = bytes(b for b in range(256) if b not in b"[]{}")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
#: All bytes other than brackets and commas.
_FILLING = bytes(b for b in range(256) if b not in b"[]{},")
_TOKENS = bytes.maketrans(b"[]{}:,", b"      ")
#: The longest whole number that every float holds has more digits.
_MANY_DIGITS = b"0" * 300

_anything = msgspec.json.Decoder()


def check_text(body: bytes) -> None:
    """Raise a 400 Problem unless `body` is UTF-8."""
    if body.isascii():
        return
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 (byte {error.start})") from None


def explain(error: msgspec.DecodeError, body: bytes) -> str:
    """Return why `body` is malformed."""
    text = str(error)
    if "truncated" in text or "surrogate" in text:
        hint = ", or has an unpaired surrogate escape such as \\ud800" if _SURROGATE.search(body) else ""
        return f"malformed JSON: it ends too early{hint}"
    return f"malformed JSON: {text.removeprefix('JSON is malformed: ')}"


def has_nul(text: bytes) -> bool:
    """Return True if a string of this JSON contains the character U+0000."""
    # Once escaped backslashes are removed, each backslash that is left escapes the character after it.
    return rb"\u0000" in text and rb"\u0000" in text.replace(rb"\\", b"")


async def check_value(value: msgspec.Raw, field: str) -> None:
    """Raise a 422 Problem for `field` unless `value`, whose syntax was checked before, can be stored and read back."""
    text = bytes(value)
    if has_nul(text):
        raise invalid(FieldError(field, "must not contain the NUL character (\\u0000): PostgreSQL cannot store it"))
    if len(text) > SMALL or (len(text) > TINY and _HIGH.search(text)):
        await _check_pieces(text, field)
        return
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _depth(_STRING.sub(b"", _unescaped(text)), 0, field)
    _check_numbers(text, field)


async def has_more_items(body: bytes, most: int) -> bool:
    """Return True if the arrays in the outermost object of this JSON have more than `most` items together."""
    text, time_slice = _unescaped(body), TimeSlice()
    depth, inside, begin, items = 0, False, 0, 1
    while begin < len(text):
        piece = b'"' + text[begin : begin + PIECE] if inside else text[begin : begin + PIECE]
        inside = piece.count(b'"') % 2 == 1
        structure = _STRING.sub(b"", piece + b'"' if inside else piece).translate(_BRACKETS, _FILLING)
        for sign in structure:
            if sign in _STEPS:
                depth += _STEPS[sign]
            elif depth == 2:
                items += 1
        if items > most:
            return True
        begin += PIECE
        await time_slice.pause()
    return False


def too_deep(field: str) -> FieldError:
    """Return the error of a value that is nested too deeply."""
    return FieldError(field, f"is nested too deeply: at most {MAX_DEPTH} levels of arrays and objects")


async def _check_pieces(text: bytes, field: str) -> None:
    """Check depth and numbers of valid JSON, piece by piece. A piece may begin and end within a string, but not in a number."""
    text, time_slice = _unescaped(text), TimeSlice()
    depth, inside, begin = 0, False, 0
    while begin < len(text):
        number = _NUMBER.match(text, begin + PIECE)
        end = number.end() if number else len(text)
        piece = b'"' + text[begin:end] if inside else text[begin:end]
        inside = piece.count(b'"') % 2 == 1
        outside = _STRING.sub(b"", piece + b'"' if inside else piece)
        depth = _depth(outside, depth, field)
        digits = outside.translate(_DIGITS)
        if b"0e" in digits or _MANY_DIGITS in digits:
            numbers = [t for t in outside.translate(_TOKENS).split() if t[0] in b"-0123456789"]
            if any(map(isinf, map(float, (t for t in numbers if len(t) <= SHORT)))):
                raise invalid(_out_of_range(field))
            _check_numbers(b"[%b]" % b",".join(t for t in numbers if len(t) > SHORT), field)
        begin = end
        await time_slice.pause()


def _unescaped(text: bytes) -> bytes:
    """Remove escaped backslashes and quotes, so that each quote that is left begins or ends a string."""
    return text.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in text else text


def _depth(outside: bytes, depth: int, field: str) -> int:
    """Return the nesting at the end of a text without strings that begins at `depth`. Raises a 422 Problem."""
    brackets = outside.translate(_BRACKETS, _OTHERS)
    opening = brackets.count(b"[")
    if depth + opening > MAX_DEPTH and max(accumulate(map(_STEPS.__getitem__, brackets), initial=depth)) > MAX_DEPTH:
        raise invalid(too_deep(field))
    return depth + 2 * opening - len(brackets)


def _out_of_range(field: str) -> FieldError:
    return FieldError(field, "has a number that is out of range: the largest is about 1.8e308")


def _check_numbers(text: bytes, field: str) -> None:
    try:
        _anything.decode(text)
    except msgspec.ValidationError:
        raise invalid(_out_of_range(field)) from None
    except msgspec.DecodeError as error:
        raise malformed(f"{field}: {explain(error, text)}") from None
