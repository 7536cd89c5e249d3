"""The schema of a database as SQL that makes it anew: `migrations/schema.sql`, for readers and for comparison.

It is written from PostgreSQL's catalogues, so that it is the same text for every version of PostgreSQL. What the schema needs
is in it: sequences, tables with their constraints and options, indexes, functions, and the rights taken from PUBLIC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from taskd.store.pinned import startup

HEAD = """\
-- The schema that all migrations together make. `make schema` writes this file from a migrated database: do not edit it.

SET check_function_bodies = off;  -- functions stand in alphabetical order here

CREATE SCHEMA taskd;
"""

SEQUENCES = "SELECT sequencename, data_type::text FROM pg_sequences WHERE schemaname = 'taskd' ORDER BY 1"

TABLES = """
    SELECT c.oid, c.relname, array_to_string(c.reloptions, ', ') FROM pg_class c
    WHERE c.relnamespace = 'taskd'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
"""

COLUMNS = """
    SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

#: Primary key first. PostgreSQL 18 lists NOT NULL as constraints, too, which the columns have already.
CONSTRAINTS = """
    SELECT quote_ident(conname), pg_get_constraintdef(oid, true) FROM pg_constraint
    WHERE conrelid = %s AND contype <> 'n' ORDER BY contype <> 'p', conname
"""

INDEXES = """
    SELECT pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid = %s AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) ORDER BY 1
"""

#: Rights that PUBLIC has unless they were taken from it are not in `proacl` while nothing was changed.
FUNCTIONS = """
    SELECT pg_get_functiondef(p.oid), p.oid::regprocedure::text,
           p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)
    FROM pg_proc p WHERE p.pronamespace = 'taskd'::regnamespace ORDER BY p.proname, p.oid::regprocedure::text
"""

#: Shorter names of types, as the migrations write them.
TYPES = {"integer": "int", "double precision": "float8", "timestamp with time zone": "timestamptz"}

#: Characters of a constraint in one line.
WIDTH = 120

Connection = psycopg.Connection[tuple[object, ...]]


def schema(dsn: str) -> str:
    """Return the schema `taskd` of a database as SQL."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5, **startup()) as connection:
        parts = [HEAD, *_sequences(connection), *_tables(connection), *_functions(connection)]
    return "\n".join(parts)


def _sequences(connection: Connection) -> Iterator[str]:
    for name, kind in connection.execute(SEQUENCES):
        yield f"CREATE SEQUENCE taskd.{name} AS {kind};\n"


def _tables(connection: Connection) -> Iterator[str]:
    for table, name, options in connection.execute(TABLES).fetchall():
        columns = [_column(*row) for row in connection.execute(COLUMNS, [table])]
        names, types = (max(len(column[place]) for column in columns) for place in (0, 1))
        lines = [f"{name:{names}} {kind:{types}} {rest}".rstrip() for name, kind, rest in columns]
        lines += [_constraint(*row) for row in connection.execute(CONSTRAINTS, [table])]
        body = ",\n".join(f"    {line}" for line in lines)
        yield f"CREATE TABLE taskd.{name} (\n{body}\n){f' WITH ({options})' if options else ''};\n"
        if indexes := [f"{_plain(index)};\n" for (index,) in connection.execute(INDEXES, [table])]:
            yield "".join(indexes)


def _column(name: object, kind: object, required: object, generated: object, value: object) -> tuple[str, str, str]:
    """Return a column's name, its type, and the rest of its definition."""
    rest = ["NOT NULL"] if required else []
    if generated:
        rest.append(f"GENERATED ALWAYS AS ({str(value).removeprefix('(').removesuffix(')')}) STORED")
    elif value is not None:
        rest.append(f"DEFAULT {_plain(value)}")
    return str(name), TYPES.get(str(kind), str(kind)), " ".join(rest)


def _constraint(name: object, rule: object) -> str:
    """Return a constraint, a long one with its parts in lines of their own."""
    text = f"CONSTRAINT {name} {_plain(rule)}"
    return text if len(text) <= WIDTH else text.replace(" AND (", "\n        AND (")


def _plain(expression: object) -> str:
    """Return an expression without the casts of literals to text, which PostgreSQL adds and does not need."""
    return re.sub(r"(?<=')::text\b(?!\[)", "", str(expression))


def _functions(connection: Connection) -> Iterator[str]:
    for definition, signature, private in connection.execute(FUNCTIONS):
        yield f"{str(definition).rstrip()};\n"
        if private:
            yield f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;\n"
