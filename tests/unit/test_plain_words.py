"""The mechanical rules of language: how docstrings open, words that name no component, and lines of pages that are too long."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]
#: Words that a source needs, by file, each with its reason.
NEEDED = {
    "src/taskd/dev/servers/owner.py": {"nobody"},  # the Unix user of that name
    "src/taskd/domain/diagnosis.py": {"mend"},  # a key in the JSON of `taskd doctor`, which programs read
}
#: Columns of a line of a page.
WIDTH = 100

OPENING = re.compile(r"(?:What|Who|Whoever|Whose|Whether|It|Its|As|That|Which|How|When|Where)\b")
HOUSE_WORD = re.compile(r"\b(?:somebody|nobody|whoever|in\s+vain|mend(?:s|ed|ing)?)\b", re.IGNORECASE)
FENCE = re.compile(r"\s*(```|~~~)")
LINK_ALONE = re.compile(r"\s*(?:[-*] )?!?\[[^\]]*\]\([^)]*\)[.,;:]?")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(file for file in (ROOT / folder).rglob("*.py") if "node_modules" not in file.parts)


def wrong_openings(source: str) -> list[str]:
    """Return the first lines of docstrings that open with neither a verb nor a noun phrase."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return [text.partition("\n")[0] for text in texts if text and OPENING.match(text)]


def house_words(text: str) -> list[str]:
    """Return the words in a text that name no component or have a plainer synonym."""
    return [" ".join(word.lower().split()) for word in HOUSE_WORD.findall(text)]


def long_lines(page: str) -> list[str]:
    """Return the lines of a page that are too long, except tables, blocks of code and lines with nothing but a link."""
    inside, long = False, []
    for line in page.splitlines():
        if FENCE.match(line):
            inside = not inside
        elif len(line) > WIDTH and not (inside or line.lstrip().startswith("|") or LINK_ALONE.fullmatch(line)):
            long.append(line)
    return long


def prose(page: str) -> str:
    """Return a page without its code, since a word in code is a quotation."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S))


def test_docstrings_open_with_a_verb_or_a_noun_phrase() -> None:
    wrong = {
        file.relative_to(ROOT).as_posix(): openings
        for file in sources("src", "tests", "bench", "examples", "docs")
        if (openings := wrong_openings(file.read_text("utf-8")))
    }
    assert wrong == {}


def test_sources_name_components_and_not_somebody() -> None:
    words = {
        file.relative_to(ROOT).as_posix(): set(house_words(file.read_text("utf-8")))
        for file in (ROOT / "src").rglob("*.*")
        if file.suffix in {".py", ".sql", ".lua"}
    }
    assert {file: house for file, house in words.items() if house != NEEDED.get(file, set())} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_plain_and_wrapped(page: Path) -> None:
    text = page.read_text("utf-8")
    assert house_words(prose(text)) == []
    assert long_lines(text) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('"""What came of attempts."""', ["What came of attempts."]),
        ('class Bell:\n    """It rings.\n\n    Loudly.\n    """', ["It rings."]),
        ('async def due() -> None:\n    """Whether a job is due."""', ["Whether a job is due."]),
        ('def due() -> None:\n    """\n    When a job is due.\n    """', ["When a job is due."]),
        ('"""Items of a queue."""\n\n\ndef put() -> None:\n    """Ask for more, as it says."""', []),
        ('what = "What it is."', []),
    ],
)
def test_a_docstring_with_a_wrong_opening_is_found(source: str, wrong: list[str]) -> None:
    assert wrong_openings(source) == wrong


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Nobody leads.", ["nobody"]),
        ("whoever asks, and somebody's job", ["whoever", "somebody"]),
        ("It was mended, in\nvain.", ["mended", "in vain"]),
        ("amendments recommend TaskdNobodyLeads and completed_by_somebody", []),
    ],
)
def test_a_house_word_is_found_and_a_part_of_a_name_is_not(text: str, words: list[str]) -> None:
    assert house_words(text) == words


def test_a_quoted_word_is_no_word_of_a_page() -> None:
    assert house_words(prose("Never `somebody`.\n\n```\nnobody\n```\n")) == []
    assert house_words(prose("Never somebody.\n\n```\nnobody\n```\n\nNobody.")) == ["somebody", "nobody"]


def test_a_line_that_could_be_wrapped_is_found() -> None:
    words = "word " * 21
    assert long_lines(words) == [words]
    assert long_lines(f"```sh\n{words}\n```\n{words}") == [words]
    assert long_lines(f"| {words} |\n- [{words}](page.md).\n{'w' * WIDTH}") == []
    assert long_lines(f"- see [{words}](page.md)") == [f"- see [{words}](page.md)"]
