"""Test of the fixture `taskd_cluster` without a cluster."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from taskd import App
from taskd.dev.app_location import locate


def test_a_worker_loads_the_module_with_the_tasks_and_not_the_test_that_imports_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()

    def work() -> None: ...

    work.__module__ = "the_shop"
    app.task(work)
    for name in ("test_the_shop", "the_shop"):
        module = ModuleType(name)
        vars(module)["app"] = app
        monkeypatch.setitem(sys.modules, name, module)
    assert locate(app) == ("the_shop:app", app)
    monkeypatch.delitem(sys.modules, "the_shop")
    assert locate(app) == ("test_the_shop:app", app)
