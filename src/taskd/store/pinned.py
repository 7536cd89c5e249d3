"""The settings of PostgreSQL that every connection of taskd has, whatever the role, the database or the environment set.

`ALTER ROLE … SET`, `ALTER DATABASE … SET`, PGOPTIONS and variables such as PGCLIENTENCODING change how a connection
reads, writes and waits. Settings that a connection asks for at its start take precedence over them. libpq sends PGTZ and
PGDATESTYLE after that, so one statement undoes these. It also sets those that only newer versions of PostgreSQL have.

A task's own connections (`store/task_connections.py`) keep the settings that their users chose, except for the encoding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

#: The encoding of text, a parameter of its own at a connection's start: a pooler passes this one on.
ENCODING: dict[str, Any] = {"client_encoding": "UTF8"}
PINNED = {
    "timezone": "UTC",
    "datestyle": "ISO,MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog,pg_temp",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    # The deadlines of statements are taskd's own.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
#: Further ones, with the first version (as libpq counts) that has them.
NEWER = {"transaction_timeout": ("0", 170000)}
#: Variables that libpq sends as settings after a connection's own.
SENT_LATER = ("PGTZ", "PGDATESTYLE")


def startup(options: Mapping[str, str] = PINNED) -> dict[str, Any]:
    """Return the arguments of a connection that has these settings."""
    return {**ENCODING, "options": flags(options)}


def flags(options: Mapping[str, str]) -> str:
    """Return settings as a connection takes them at its start."""
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in options.items())


def newer(version: int) -> dict[str, str]:
    """Return the settings of PINNED's kind that only this version and later ones have."""
    return {name: value for name, (value, first) in NEWER.items() if version >= first}


def remaining(version: int, options: Mapping[str, str] = PINNED) -> str:
    """Return the statement that sets what a connection cannot ask for at its start; empty if there is nothing."""
    left = newer(version)
    if any(os.environ.get(name) for name in SENT_LATER):
        left |= {name: options[name] for name in ("timezone", "datestyle")}
    return f"SELECT {assignments(left, local=False)}" if left else ""


def assignments(options: Mapping[str, str], *, local: bool) -> str:
    """Return the calls that set these; `local`: for the transaction only. Names and values are taskd's own."""
    return ", ".join(f"set_config('{name}', '{value}', {str(local).lower()})" for name, value in options.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
