"""Tests of the documentation's numbers and lists against their sources."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from taskd import settings
from taskd.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
DEPLOYED = [file for file in (ROOT / "deploy").rglob("*") if file.suffix in {".yaml", ".service", ".md"}]
DEFAULTS = {
    (section, key): value
    for section, keys in msgspec.to_builtins(settings.Settings()).items()
    for key, value in keys.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
}
UNITS = {"s": 1, "MiB": 1024**2, "KiB": 1024}
#: A setting and its default in brackets: `leader_stale` (10 s), worker.grace is 30 s.
STATED = re.compile(
    r"`?\b((?:[a-z]+\.)?[a-z]+(?:_[a-z]+)*)`?(?: \((?P<a>[0-9.]+) (?P<b>s|MiB|KiB)[);, ]| is (?P<c>[0-9.]+) (?P<d>s|MiB|KiB)\b)"
)


def meant(name: str) -> set[float]:
    """Return the defaults of the settings that a name may mean: a key may stand without its section."""
    section, _, key = name.rpartition(".")
    return {value for (home, setting), value in DEFAULTS.items() if setting == key and section in ("", home)}


def stated() -> Iterator[tuple[str, str, float]]:
    for page in [*PAGES, *DEPLOYED]:
        for match in STATED.finditer(page.read_text("utf-8")):
            number, unit = (match["a"], match["b"]) if match["a"] else (match["c"], match["d"])
            yield page.name, match[1], float(number) * UNITS[unit]


def test_a_setting_with_a_number_in_brackets_has_its_default() -> None:
    wrong = [(page, name, value) for page, name, value in stated() if meant(name) and value not in meant(name)]
    assert wrong == []
    assert sum(bool(meant(name)) for _, name, _ in stated()) > 15


def test_the_table_of_timings_has_the_defaults() -> None:
    rows = re.findall(
        r"^\| `TASKD_([A-Z]+)__([A-Z_]+)` \| ([0-9.]+) \|", (ROOT / "docs/operations.md").read_text(), re.M
    )
    assert len(rows) >= 9
    assert {(section.lower(), key.lower()): float(value) for section, key, value in rows}.items() <= DEFAULTS.items()


def test_the_walk_has_the_heartbeat_and_the_looks_of_their_settings() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    for duty, section, key in (("heartbeat", "worker", "heartbeat"), ("lead", "scheduler", "leader_renew")):
        (number,) = re.findall(rf"^\| {duty} \| [^|]+\| ([0-9.]+) s", page, re.M)
        assert float(number) == DEFAULTS[section, key], duty


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_heading_stands_twice_on_a_page(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ .+$", text, re.M)
    assert sorted(set(headings)) == sorted(headings)


def test_every_decision_record_is_in_the_list() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    assert [
        file.name for file in sorted((ROOT / "docs/adr").glob("[0-9]*.md")) if f"(adr/{file.name})" not in page
    ] == []


def test_refusals_quote_the_value_of_their_example() -> None:
    page = (ROOT / "docs/http-api.md").read_text("utf-8")
    examples = re.findall(r'"priority": ?(\d+)\}.*\n\{"title":.*?, not (\d+)"', page)
    assert len(examples) == 2
    assert [sent for sent, quoted in examples if sent != quoted] == []


def test_pages_count_the_migrations() -> None:
    numbers = [
        int(number) for page in PAGES for number in re.findall(r"(\d+) migrations applied", page.read_text("utf-8"))
    ]
    assert set(numbers) == {len(list((ROOT / "migrations").glob("[0-9]*.sql")))}


def test_the_claim_of_the_readme_about_its_table_is_true() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert "more jobs a second than any other system in Python, in each of the three columns" in " ".join(page.split())
    rows = re.findall(r"^\| ([\w-]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", page, re.M)
    rates = {name: [int(rate.replace(",", "")) for rate in row] for name, *row in rows}
    others = [rates[name] for name in rates if name not in ("taskd", "graphile-worker", "BullMQ")]
    assert len(others) == 6
    assert all(ours > most for ours, *most_of in zip(rates["taskd"], *others, strict=True) for most in most_of)


def test_the_time_that_a_process_has_to_end_is_one_number() -> None:
    for page in [*PAGES, *DEPLOYED]:
        text = " ".join(page.read_text("utf-8").split())
        for extra in re.findall(
            r"`?(?:worker\.)?grace`?(?: \(30 s\))?,?(?: in which running tasks may end,)? (?:plus|and) (\d+) s", text
        ):
            assert extra == "10", page.name


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of taskd in a page's code, as words."""
    for code in re.findall(r"`(taskd [^`]+)`", page.read_text("utf-8")):
        yield shlex.split(code)[1:]


def test_the_commands_of_the_cheat_sheet_exist_with_their_options() -> None:
    looked_at = 0
    for words in commands(ROOT / "docs/cheat-sheet.md"):
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}) or command.invoke_without_command, words
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, (command.name, words)
        looked_at += 1
    assert looked_at > 30


def oldest(room: str) -> str:
    """Return the oldest version of its server that a package of taskd takes: the constant of `taskd doctor`."""
    files = (ROOT / "src/taskd" / room).glob("*.py")
    texts = [file.read_text("utf-8") for file in files]
    (numbers,) = (match[1] for text in texts for match in re.finditer(r"^OLDEST = \(?([\d, ]+)", text, re.M))
    return str(numbers).replace(", ", ".")


def test_the_page_on_versions_has_the_oldest_that_taskd_takes() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (\d[\d.]*) or newer", (ROOT / "docs/versions.md").read_text("utf-8"), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {name: rows.get(name) for name in ("Python", "PostgreSQL", "Redis", "etcd")} == {
        "Python": project["requires-python"].removeprefix(">="),
        "PostgreSQL": oldest("store"),
        "Redis": oldest("transport"),
        "etcd": oldest("coordination"),
    }


def test_the_recipes_of_contributing_name_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:src|tests|docs|migrations|deploy)/[\w./-]+)`", text))
    assert len(named) > 30
    assert sorted(name for name in named if "NAME" not in name and not (ROOT / name).exists()) == []
