"""Tests of text on its way to a terminal: it does not steer the terminal, and no encoding stops it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd.runtime import terminal
from taskd.runtime.console import SafeConsole
from taskd.runtime.terminal import MOST_MARKS, NotText, clean, clean_json, clean_line, decoded

STEERING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=30)


def steering(text: str) -> list[str]:
    """Return the characters that a terminal may obey or hide, except tab and newline."""
    return [c for c in text if c not in "\t\n" and unicodedata.category(c) in STEERING]


def test_every_control_format_and_surrogate_character_is_escaped() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert steering(clean(everything)) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;x\x07\x1b[2J", r"\x1b]0;x\x07\x1b[2J"),
        ("a\x7f\x9b31m", r"a\x7f\x9b31m"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("a\r\nb\tc", "a\\x0d\nb\tc"),
        ("žluťoučký 日本 😀 e\u0301", "žluťoučký 日本 😀 e\u0301"),
    ],
)
def test_an_escape_shows_which_character_it_is(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_flood_of_marks_on_one_letter_is_bounded() -> None:
    shown = clean("e" + "\u0301" * 1000 + "x")
    assert shown == "e" + "\u0301" * MOST_MARKS + r"\u0301" * (1000 - MOST_MARKS) + "x"


def test_a_name_stays_on_its_line() -> None:
    assert clean_line("a\nb\tc") == r"a\nb\tc"


@given(ANYTHING)
def test_cleaned_json_has_the_same_value(text: str) -> None:
    shown = clean_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert steering(shown) == []
    assert json.loads(shown) == {text: [text]}


@given(ANYTHING)
def test_a_console_writes_text_as_text(text: str) -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=200, color_system=None)
    console.print(f"[link=http://x][red]{text}")
    assert steering(out.getvalue()) == []
    assert "[link=http://x][red]" in out.getvalue()


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "\\xe9"), ("latin-1", "é"), ("utf-8", None)])
def test_characters_that_an_encoding_lacks_are_replaced(
    encoding: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", stream := io.TextIOWrapper(written, encoding=encoding))
    terminal.prepare_streams()
    stream.write("é─日…\n")
    stream.flush()
    assert written.getvalue().decode(encoding) == ("é─日…\n" if shown is None else f"{shown}-\\u65e5...\n")


@given(ANYTHING)
def test_json_is_ascii_where_the_output_is_not_utf_8(text: str) -> None:
    shown = clean_json(json.dumps([text], ensure_ascii=False), ascii_only=True)
    assert shown.isascii()
    assert json.loads(shown) == [text]


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_closed_output_stops_no_command(closed: str) -> None:
    command = f'"{sys.executable}" -m taskd run echo 1 {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_argument_of_a_c_locale_is_utf_8() -> None:
    assert decoded([os.fsdecode("ž".encode()), "ž", "a"]) == ["ž", "ž", "a"]
    with pytest.raises(NotText, match=r"\\xff"):
        decoded(["\udcff"])


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["run", "echo", '"ž日\\u001b"'], 0, '"\\u017e\\u65e5\\u001b"'),
        (["run", "echo", b"\xff"], 2, "error: the argument \\xff is not UTF-8 text"),
        (["run", "echo", "@ž.json"], 0, '{"x": "\\u017e"}'),
        (["run", "nope-ž"], 2, "nope-\\u017e"),
    ],
)
def test_a_c_locale_stops_no_command(
    arguments: list[str | bytes], status: int, says: str, tmp_path: os.PathLike[str]
) -> None:
    with open(os.path.join(os.fsencode(tmp_path), "ž.json".encode()), "w", encoding="utf-8") as file:
        file.write('\ufeff{"x": "ž"}')
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [a if isinstance(a, bytes) else a.encode() for a in (sys.executable, "-m", "taskd", *arguments)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    assert says.encode() in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
