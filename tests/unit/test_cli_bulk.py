"""Tests of `taskd submit --bulk`: the jobs of a file, the same file again, and the messages about bad lines."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskd.cli import bulk
from taskd.cli.main import run
from taskd.client import Client, ClientError


class FakeClient(Client):
    """Fake client that stores each job once a key."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.keys: dict[str, int] = {}
        self.batches: list[list[Mapping[str, Any]]] = []
        self.failure: ClientError | None = None

    def send_batch(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.failure is not None and self.batches:
            raise self.failure
        self.batches.append(list(jobs))
        duplicates = [self.keys[j["dedupe_key"]] for j in jobs if j["dedupe_key"] in self.keys]
        ids = [self.keys.setdefault(j["dedupe_key"], len(self.keys) + 1) for j in jobs]
        return {"ids": ids, "duplicates": duplicates}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()
    monkeypatch.setattr("taskd.cli.options.connect", lambda server: client)
    return client


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(*lines: object) -> str:
        path = tmp_path / "jobs.ndjson"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return str(path)

    return to_file


def test_each_line_is_a_job_and_options_are_what_it_leaves_out(client: FakeClient, write: Write) -> None:
    name = write({"payload": 1}, "", {"payload": 2, "queue": "own"})
    assert run(["submit", "--bulk", name, "--queue", "q", "--priority", "7"]) == 0
    (batch,) = client.batches
    assert [(j["payload"], j["queue"], j["priority"]) for j in batch] == [(1, "q", 7), (2, "own", 7)]


def test_the_same_line_twice_makes_two_jobs_and_the_same_file_twice_none(
    client: FakeClient, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write({"payload": 1}, {"payload": 1}, {"payload": 2})
    assert run(["submit", "--bulk", name]) == 0
    assert capsys.readouterr().out == "3 jobs submitted\n"
    assert run(["submit", "--bulk", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"submitted": 0, "duplicates": 3, "ids": [1, 2, 3]}
    assert run(["submit", "--bulk", name, "--again"]) == 0
    assert len(client.keys) == 6


def test_a_line_that_was_added_is_the_only_new_job(
    client: FakeClient, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", "--bulk", write({"payload": 1}, {"payload": 3})])
    capsys.readouterr()
    run(["submit", "--bulk", write({"payload": 1}, {"payload": 2}, {"payload": 3})])
    assert capsys.readouterr().out.startswith("1 job submitted; 2 had been submitted before")


def test_a_key_of_its_own_is_kept(client: FakeClient, write: Write) -> None:
    run(["submit", "--bulk", write({"payload": 1, "dedupe_key": "mine"})])
    assert list(client.keys) == ["mine"]


def test_stdin_is_a_file_too(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"payload": 1}\n{"payload": 2}\n')))
    assert run(["submit", "--bulk", "-"]) == 0
    assert len(client.keys) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "must be an object"),
        ("\x00", "is not valid JSON"),
        ('{"payload": NaN}', "is not valid JSON"),
    ],
)
def test_nothing_is_sent_of_a_file_with_a_line_that_is_no_job(
    client: FakeClient, write: Write, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write({"payload": 1}, line)
    assert run(["submit", "--bulk", name]) == 2
    error = capsys.readouterr().err
    assert f"{name}, line 2: {says}" in error
    assert "nothing was submitted" in error
    assert client.batches == []


def test_batches_are_bounded_by_jobs_and_by_bytes(
    client: FakeClient, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)
    run(["submit", "--bulk", write(*({"payload": n} for n in range(7)))])
    assert [len(b) for b in client.batches] == [3, 3, 1]
    monkeypatch.setattr(bulk, "BATCH_BYTES", 50)
    client.batches.clear()
    run(["submit", "--bulk", write({"payload": "x" * 100}, {"payload": "y" * 100}, {"payload": 1}), "--again"])
    assert [len(b) for b in client.batches] == [1, 1, 1]


def test_a_refused_line_is_named_and_what_is_stored_is_counted(
    client: FakeClient, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    client.failure = ClientError("jobs[1].priority: must be a whole number from 0 to 100, not 101", 422)
    name = write({"payload": 1}, {"payload": 2}, "", {"payload": 3}, {"payload": 4, "priority": 101})
    assert run(["submit", "--bulk", name]) == 2
    error = capsys.readouterr().err
    assert f"{name}, line 5: priority: must be a whole number from 0 to 100, not 101" in error
    assert "2 of 4 jobs are stored" in error


@pytest.mark.parametrize("more", [["1"], ["--dedupe-key", "k"], ["--wait"]])
def test_options_for_one_job_are_refused(client: FakeClient, write: Write, more: list[str]) -> None:
    assert run(["submit", "--bulk", write({"payload": 1}), *more]) == 2
    assert run(["submit", "1", "--again"]) == 2
    assert client.batches == []
