"""Tests of the submit that `taskd dev` shows for an app of the user."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from taskd import App, Context
from taskd.dev.example import example
from taskd.dev.screen import _example


class Size(Enum):
    SMALL = "s"


@dataclass
class Order:
    item: str
    count: int = 1


def plain(n: int, name: str, ratio: float, *, urgent: bool = False) -> None: ...


def rich(order: Order, size: Size, kind: Literal["a"], day: date, tags: list[str], note: str | None) -> None: ...


def bounded(ctx: Context, n: Annotated[int, msgspec.Meta(ge=5)]) -> None: ...


def nothing() -> None: ...


def bare(x, y) -> None: ...  # type: ignore[no-untyped-def]  # a beginner's


def impossible(n: Annotated[str, msgspec.Meta(pattern="^z+$")]) -> None: ...


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (plain, {"n": 1, "name": "text", "ratio": 1.0}),
        (
            rich,
            {"order": {"item": "text"}, "size": "s", "kind": "a", "day": "2026-01-31", "tags": [], "note": None},
        ),
        (bounded, {"n": 5}),
        (nothing, {}),
        (bare, {"x": "text", "y": "text"}),
    ],
)
def test_a_payload_is_made_up_that_the_task_takes(function: Any, payload: dict[str, Any]) -> None:
    shown = example([App().task(function)])
    assert shown is not None
    assert (shown.task, shown.payload) == (function.__name__, payload)


def test_a_task_without_an_example_is_passed_over() -> None:
    app = App()
    tasks: list[Any] = [app.task(impossible), app.task(nothing)]
    shown = example(tasks)
    assert shown is not None
    assert shown.task == "nothing"
    assert example(tasks[:1]) is None


def test_the_app_is_loaded_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop_with_words.py").write_text(
        "import taskd\nprint('loading')\napp = taskd.App()\n@app.task\ndef double(n: int) -> int:\n    return 2 * n\n"
    )
    assert _example("shop_with_words") == {"task": "double", "payload": {"n": 1}}
    assert _example("no_such_module") is None
    command = [sys.executable, "-m", "taskd.dev.example", "shop_with_words"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["task"] == "double"
