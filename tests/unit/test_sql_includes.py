"""Tests of the parts that SQL statements share: each include is replaced, and a misspelt one is refused."""

from __future__ import annotations

import re

import msgspec
import pytest

from taskd.domain.job import JobSpec
from taskd.store import claims, logs, notes
from taskd.store.statements import FOLDER, columns, expanded, fragments, names, statement

INCLUDE = re.compile(r"\{\{(?:\w+\.)?(\w+)\}\}")
SOURCES = {name: (FOLDER / f"{name}.sql").read_text("utf-8") for name in names()}
PARTS = [file.read_text("utf-8") for file in (FOLDER / "fragments").iterdir()]


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if "{{" in source])
def test_every_include_of_a_statement_is_replaced_by_its_fragment(name: str) -> None:
    text = statement(name)
    assert "{{" not in text
    assert "}}" not in text
    parts = re.split(r"\{\{(?:(\w+)\.)?(\w+)\}\}", SOURCES[name])
    whole = parts[0]
    for alias, fragment, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        prefixed = ", ".join(f"{alias}.{column}" for column in columns(fragment))
        whole += (prefixed if alias else fragments()[fragment]) + after
    assert squeezed(text) == squeezed(whole)


def test_a_statement_without_an_include_is_its_file() -> None:
    plain = [name for name, source in SOURCES.items() if "{{" not in source]
    assert "claim" not in plain
    assert all(statement(name) == SOURCES[name] for name in plain)


def test_every_fragment_has_a_unique_name_and_is_included() -> None:
    written = [name for part in PARTS for name in re.findall(r"^-- name: (\w+)$", part, re.MULTILINE)]
    assert sorted(written) == sorted(fragments())
    assert set(INCLUDE.findall("\n".join([*SOURCES.values(), *PARTS]))) == set(written)


def test_comments_on_a_fragment_are_not_part_of_it() -> None:
    assert fragments()["term_fence"] == (
        "SELECT 1 FROM taskd.leader WHERE shard = %(shard)s AND epoch = %(epoch)s AND holder = %(holder)s FOR SHARE"
    )


def test_later_lines_are_indented_as_the_first_and_columns_get_their_alias() -> None:
    known = {"wide": "id, status,\nqueue", "one": "x"}
    assert expanded("SELECT {{wide}}, {{one}}\nFROM t", known) == "SELECT id, status,\n       queue, x\nFROM t"
    assert expanded("  RETURNING {{j.wide}}", known) == "  RETURNING j.id, j.status,\n            j.queue"


def test_an_unknown_include_is_refused() -> None:
    with pytest.raises(LookupError, match=r"no fragment terms: sql/fragments/ has term, other"):
        expanded("WITH term AS ({{terms}})", {"term": "SELECT 1", "other": "x"})


@pytest.mark.parametrize("text", ["{{ term }}", "{{term}", "{term}}", "{{j.t.term}}", "{{}}"])
def test_braces_that_are_no_include_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"an include is written \{\{NAME\}\}"):
        expanded(f"SELECT {text}", {"term": "1"})


def test_lists_that_are_used_together_have_as_many_columns() -> None:
    """A UNION would refuse one of the pairs, but not the other."""
    finished, live = columns("finished_columns"), fragments()["live_columns"].split(",")
    assert len(finished) == len(live)
    assert {ours: theirs.strip() for ours, theirs in zip(finished, live, strict=True) if ours != theirs.strip()} == {
        "completed_at": "NULL::timestamptz",
        "result": "NULL::json",
        "retried_as": "NULL::bigint",
    }
    assert [typed.split()[0] for typed in fragments()["submitted_types"].split(", ")] == [*columns("submitted_columns")]


def recordset(name: str) -> set[str]:
    """Return the fields that a statement reads of the rows of its JSON document."""
    (fields,) = re.findall(r"json_to_recordset\(%\(\w+\)s::json\) AS (?:\w+ )?\(([^()]*)\)", statement(name))
    return {field.split()[0] for field in fields.split(",")}


@pytest.mark.parametrize(
    ("name", "row"),
    [("submit_apart", JobSpec), ("settle", claims._SettlementRow), ("note", notes._NoteRow), ("log", logs._OutputRow)],
)
def test_a_document_has_the_fields_that_its_statement_reads(name: str, row: type[msgspec.Struct]) -> None:
    assert set(row.__struct_fields__) == recordset(name)


def test_a_submit_without_options_has_every_column_that_the_table_demands() -> None:
    """Their columns are NOT NULL and have no default."""
    document = msgspec.json.decode(msgspec.json.encode(JobSpec(payload=msgspec.Raw(b"1"))))
    assert document == {
        "payload": 1,
        "task": "default",
        "queue": "default",
        "priority": 0,
        "max_retries": 3,
        "retry_backoff": {"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": True},
    }


def test_a_claim_is_read_by_the_columns_of_its_statement() -> None:
    assert claims._ClaimRow.__struct_fields__ == ("alive", "epoch", *columns("claimed_columns"), "checkpoint")
