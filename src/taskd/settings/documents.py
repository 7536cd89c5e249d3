"""Texts about all settings: the example file and the tables of the documentation."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Meta

from taskd.settings.sections import ENVIRONMENT, Settings


def as_toml() -> str:
    """Return the text of taskd.toml.example: every setting, its meaning and its default."""
    lines = [
        "# Every setting of taskd with its default. Precedence: flags, the environment, this file.",
        "# Any key is also the variable TASKD_<SECTION>__<KEY>; with _FILE at its end it names a file with the value.",
    ]
    shorthands = {place: name for name, place in ENVIRONMENT.items()}
    for section in msgspec.structs.fields(Settings):
        lines += ["", f"# {(section.type.__doc__ or '').strip()}", f"[{section.name}]"]
        for field in msgspec.structs.fields(section.type):
            name = shorthands.get((section.name, field.name))
            lines.append(f"# {_describe(field.type)}{f' (also {name})' if name else ''}")
            lines.append(f"{field.name} = {msgspec.json.encode(field.default).decode()}")
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """Return the tables of docs/configuration.md, one for each section."""
    lines: list[str] = []
    shorthands = {place: name for name, place in ENVIRONMENT.items()}
    for section in msgspec.structs.fields(Settings):
        doc = (section.type.__doc__ or "").strip()
        lines += [f"## [{section.name}]", "", doc, "", "| key | default | meaning |", "|---|---|---|"]
        for field in msgspec.structs.fields(section.type):
            name = shorthands.get((section.name, field.name))
            meaning = f"{_describe(field.type)}{f' (also {name})' if name else ''}"
            lines.append(f"| `{field.name}` | `{msgspec.json.encode(field.default).decode()}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _describe(annotation: Any) -> str:
    return " ".join(m.description for m in _metas(annotation) if m.description)


def _metas(annotation: Any) -> list[Meta]:
    return [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Meta)]
