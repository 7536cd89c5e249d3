"""The named SQL statements: `sql/NAME.sql`, each one sentence long in its first comment."""

from __future__ import annotations

from importlib.resources import files

FOLDER = files("taskd.store") / "sql"


def names() -> list[str]:
    """All statements there are."""
    return sorted(f.name.removesuffix(".sql") for f in FOLDER.iterdir() if f.name.endswith(".sql"))


def statement(name: str) -> str:
    """The text of one statement. Raises FileNotFoundError for an unknown name."""
    return (FOLDER / f"{name}.sql").read_text("utf-8")
