"""Tests that mutants change the SQL that they are to change: `make mutants` takes an hour to show it."""

from __future__ import annotations

import pytest

from taskd.store import statements
from tests.chaos.mutants import MUTANTS

EDITING = [name for name, mutant in MUTANTS.items() if mutant.apply.__qualname__.startswith("edit_statements.")]


@pytest.mark.parametrize("name", EDITING)
def test_a_mutant_changes_statements(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = {each: statements.statement(each) for each in statements.names()}
    monkeypatch.setattr(statements, "statement", statements.statement)  # undone after the test, also what `apply` sets
    MUTANTS[name].apply()
    assert any(statements.statement(each) != text for each, text in original.items())


def test_most_mutants_edit_statements() -> None:
    assert {"no-row-lock", "no-dispatch-seq", "settle-by-status", "no-fire-fence"} <= set(EDITING)
