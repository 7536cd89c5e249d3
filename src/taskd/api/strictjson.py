"""JSON that everything behind the API can store and read back.

A payload travels as the client wrote it. `msgspec.Raw` lets bytes through that are no UTF-8 and numbers that no float holds;
PostgreSQL refuses NUL and lone surrogates, and deep nesting exhausts the stack of whoever decodes it. So all of that is
refused here, where the client still listens. Each check is one pass over the text, and the passes over a large text are cut
into pieces, so that no request keeps others waiting.
"""

from __future__ import annotations

import re
from itertools import accumulate
from math import isinf

import msgspec

from taskd.api.problems import FieldError, invalid, malformed
from taskd.api.turns import Turns

#: How deep arrays and objects may be nested in a payload.
MAX_DEPTH = 200
#: Bytes of a payload that is decoded to check it, which is quick but makes an object of each value.
SMALL = 4096
#: Of a payload up to this size, numbers near the end of a float's range are decoded as well: each takes msgspec 10 µs.
TINY = 256
#: The longest number that is given to `float`, which is quick at that end. It takes longer ones that msgspec refuses.
SHORT = 40
#: Bytes that are looked at before other requests get a turn.
PIECE = 64 * 1024

_STRING = re.compile(rb'"[^"]*"')
_NUMBER = re.compile(rb"[0-9eE+.\-]*")
_HIGH = re.compile(rb"[eE]\+?[0-9]{3}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OTHERS = bytes(b for b in range(256) if b not in b"[]{}")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
#: What is no bracket and no comma.
_FILLING = bytes(b for b in range(256) if b not in b"[]{},")
_TOKENS = bytes.maketrans(b"[]{}:,", b"      ")
#: The longest whole number that every float holds has more digits.
_MANY_DIGITS = b"0" * 300

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
    # Without the escaped backslashes, each one that is left escapes what follows it.
    return rb"\u0000" in text and rb"\u0000" in text.replace(rb"\\", b"")


async def check_value(value: msgspec.Raw, field: str) -> None:
    """Raises a 422 Problem for `field` unless `value` can be stored and read back. Its syntax was checked before."""
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
    """True if the arrays in the outermost object of this JSON have more than `most` items together."""
    text, turns = _unescaped(body), Turns()
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
        await turns.turn()
    return False


def too_deep(field: str) -> FieldError:
    """The error of a value that is nested too deeply."""
    return FieldError(field, f"is nested too deeply: at most {MAX_DEPTH} levels of arrays and objects")


async def _check_pieces(text: bytes, field: str) -> None:
    """Check depth and numbers of valid JSON, piece by piece. A piece may begin and end within a string, but not in a number."""
    text, turns = _unescaped(text), Turns()
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
        await turns.turn()


def _unescaped(text: bytes) -> bytes:
    """The same structure without escaped backslashes and quotes, so that each quote begins or ends a string."""
    return text.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in text else text


def _depth(outside: bytes, depth: int, field: str) -> int:
    """How deep the end of a text without strings is, if its beginning is at `depth`. Raises a 422 Problem."""
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
