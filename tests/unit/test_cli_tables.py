"""Tests of the cluster's tables: leaders, schedules, pipes."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from taskd.cli import output, tables


def leader_lines(leader: dict[str, Any]) -> list[str]:
    """Return the lines about leaders."""
    health = {"status": "healthy", "instance_id": "s1", "components": {}}
    console = Console(width=100)
    with console.capture() as captured:
        console.print(
            tables.cluster(
                {"health": health, "leader": leader} | dict.fromkeys(("schedulers", "workers", "queues", "metrics"))
            )
        )
    return [line.strip() for line in captured.get().splitlines()[1:]]


@pytest.mark.parametrize(
    ("leader", "lines"),
    [
        ({"current_leader": "s1", "epoch": 4}, ["leader    s1 (epoch 4)"]),
        ({"current_leader": None, "epoch": 4}, ["leader    none"]),
        ({"current_leader": "s1"}, ["leader    s1"]),
        (
            {
                "current_leader": "s1",
                "epoch": 4,
                "shards": [
                    {"shard": 0, "current_leader": "s1", "epoch": 4},
                    {"shard": 1, "current_leader": None, "epoch": 2},
                    {"shard": 2, "current_leader": "s2", "epoch": 3},
                    {"shard": 3, "current_leader": "s1", "epoch": 1},
                ],
            },
            ["leader    s1 (epoch 4)", "shards    s1: 0, 3", "shards    none: 1", "shards    s2: 2"],
        ),
    ],
)
def test_leaders_are_shown_with_their_shards(leader: dict[str, Any], lines: list[str]) -> None:
    assert leader_lines(leader) == lines


def test_a_pipe_gets_no_blanks_at_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    table = tables.table_of("name", "text")
    table.add_row("a", "long enough")
    table.add_row("b", "short")
    output.console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line[:1] in ("a", "b")] == [["a", "long", "enough"], ["b", "short"]]
    assert all(line == line.rstrip() for line in lines)


def test_a_schedule_that_is_paused_shows_no_next_tick() -> None:
    schedule: dict[str, Any] = {
        "name": "nightly",
        "next_at": None,
        "paused_by": "ada",
        "job": {"task": "report", "payload": None},
        "fires": [],
    }
    console = Console(width=80)
    with console.capture() as capture:
        console.print(tables.schedule(schedule))
    lines = [line.split() for line in capture.get().splitlines()]
    assert lines == [["schedule", "nightly"], ["paused_by", "ada"], ["task", "report"], ["payload", "null"]]
