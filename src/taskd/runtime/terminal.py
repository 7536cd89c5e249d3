r"""Text for terminals: made harmless, and written in the terminal's encoding.

Names, errors, payloads and answers come from outside. A terminal obeys the control characters in them, and shows some
other characters as nothing or in another order. `clean` writes each of those as an escape, such as \x1b or \u202e, so that
the reader sees it and the terminal does not obey it. Every view of the command line and of `taskd dev` passes it.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

#: Controls but tab and newline, DEL, C1; format characters (bidirectional, zero-width, tags); line and paragraph
#: separators; fillers that are shown as nothing; lone surrogates; private use; noncharacters.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0d"
    "\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
#: Marks that stand on the character before them. A few are writing; a flood of them covers other lines.
_MARKS = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0f71-\u0f84"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u302a-\u302f\u3099\u309a\ufe0e\ufe0f\ufe20-\ufe2f]"
)
MOST_MARKS = 8
_CHARACTER = re.compile(f"[{_UNSAFE}]")
_CHARACTER_OR_BREAK = re.compile(f"[\t\n{_UNSAFE}]")
_FLOOD = re.compile(f"({_MARKS}{{{MOST_MARKS}}})({_MARKS}+)")
_NOT_ASCII = re.compile(r"[^\t\n\x20-\x7e]")
_SHORT = {"\t": r"\t", "\n": r"\n"}

#: Replacements for characters of taskd's own texts that an encoding lacks.
_PLAIN = {"…": "...", "─": "-", "━": "-", "═": "=", "│": "|", "╸": "-", "╺": "-", "–": "-", "—": "-", "→": "->"}  # noqa: RUF001
ERRORS = "taskd.plain"


class NotText(Exception):
    """An argument that is not valid UTF-8; the message names it."""


def clean(text: str) -> str:
    """Return the text with all characters escaped that control a terminal or deceive its reader; tabs and newlines stay."""
    return _escaped(text, _CHARACTER, _escape)


def clean_line(text: str) -> str:
    """Return the text as `clean` does, on one line: tabs and newlines are escaped, too."""
    return _escaped(text, _CHARACTER_OR_BREAK, _escape)


def clean_json(text: str, *, ascii_only: bool = False) -> str:
    """Return JSON of the same value that is harmless on a terminal. Outside of strings JSON has none of these but \\r."""
    text = text.replace("\r", "")
    return _escaped(text, _NOT_ASCII if ascii_only and not text.isascii() else _CHARACTER, _json_escape)


def _escaped(text: str, unsafe: re.Pattern[str], escape: Callable[[str], str]) -> str:
    text = unsafe.sub(lambda found: escape(found[0]), text)
    return text if text.isascii() else _FLOOD.sub(lambda found: found[1] + "".join(map(escape, found[2])), text)


def prepare_streams() -> None:
    """Let standard output and error write any text, whatever their encoding lacks. Closed streams become /dev/null."""
    codecs.register_error(ERRORS, _replace)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):  # a closed one
                stream.reconfigure(errors=ERRORS)


def decoded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments decoded as UTF-8, which a C locale does not do. Raises NotText for one that is not UTF-8."""
    return [_decoded(argument) for argument in arguments]


def path(text: str) -> str:
    """Return the path of a decoded argument. In a C locale, the file system takes its bytes only as surrogates."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def _decoded(argument: str) -> str:
    if argument.isascii():
        return argument
    try:
        return os.fsencode(argument).decode("utf-8") if _has_surrogate(argument) else argument
    except UnicodeError:
        shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
        raise NotText(f"the argument {clean_line(shown)} is not UTF-8 text") from None


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that an encoding lacks by stand-ins or escapes: the error handler of the streams."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    parts = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text)
    return "".join(parts), error.end
