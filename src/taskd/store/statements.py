"""The named SQL statements: `sql/NAME.sql`, each with one sentence about itself as its first comment.

What several statements share stands once, in `sql/fragments/`: there, `-- name: NAME` begins a fragment. A statement includes
it as `{{NAME}}`. `{{j.NAME}}` includes a list of columns, each with the table's alias `j` before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

FOLDER = files("taskd.store") / "sql"

_INCLUDE = re.compile(r"\{\{(?:(\w+)\.)?(\w+)\}\}")
_NAME = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*", re.MULTILINE)
_COLUMN = re.compile(r"\w+")


def names() -> list[str]:
    """Return the names of all statements."""
    return sorted(f.name.removesuffix(".sql") for f in FOLDER.iterdir() if f.name.endswith(".sql"))


def statement(name: str) -> str:
    """Return the text of one statement. Raises FileNotFoundError for an unknown name, LookupError for an unknown include."""
    return expanded((FOLDER / f"{name}.sql").read_text("utf-8"), fragments())


def columns(fragment: str) -> tuple[str, ...]:
    """Return the names in a fragment that is a list of columns."""
    return tuple(_COLUMN.findall(fragments()[fragment]))


@cache
def fragments() -> Mapping[str, str]:
    """Return the text of each fragment by its name. A fragment may include those that stand before it in its file."""
    texts: dict[str, str] = {}
    for file in sorted((FOLDER / "fragments").iterdir(), key=lambda file: file.name):
        _, *parts = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            texts[name] = expanded(text.strip(), texts)
    return texts


def expanded(text: str, known: Mapping[str, str]) -> str:
    """Return a text with its includes replaced. The later lines of a fragment are indented as its first one.

    Raises LookupError for a fragment that is not `known`, ValueError for braces that are no include.
    """

    def fragment(include: re.Match[str]) -> str:
        alias, name = include.groups()
        if name not in known:
            raise LookupError(f"no fragment {name}: sql/fragments/ has {', '.join(known)}")
        indent = " " * (include.start() - (text.rfind("\n", 0, include.start()) + 1))
        listed = _COLUMN.sub(rf"{alias}.\g<0>", known[name]) if alias else known[name]
        return listed.replace("\n", "\n" + indent)

    result = _INCLUDE.sub(fragment, text)
    if "{{" in result or "}}" in result:
        raise ValueError(f"an include is written {{{{NAME}}}} or {{{{alias.NAME}}}}: {result}")
    return result
