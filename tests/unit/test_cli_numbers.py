"""Tests that the command line sends and shows payloads and values as they were written."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from taskd.cli.main import run
from tests.fake_server import JOB, listening, response


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Current folder without a taskd.toml."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["12345678901234567890123.5", '{"a": 1.50, "a": [1e5, -0.0]}', '"\\u0000"', "1E400"])
@pytest.mark.parametrize("source", ["argument", "file", "stdin"])
def test_a_payload_is_sent_as_it_is_written(
    text: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = f"\ufeff{text}\n".encode()
    (tmp_path / "payload").write_bytes(marked)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(marked)))
    argument = {"argument": text, "file": "@payload", "stdin": "-"}[source]
    with listening(JOB) as (url, asked):
        assert run(["submit", argument, "--server", url]) == 0
    assert asked[0].endswith(f'{{"payload": {text}}}'.encode())


@pytest.mark.parametrize(
    ("text", "noted"),
    [('{"name": Ada}', True), ("[1,", True), ("{'a': 1}", True), ("hello", False), ('{"a": 1}', False)],
)
def test_a_text_that_looks_like_json_is_sent_with_a_note(
    text: str, noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(JOB) as (url, _):
        assert run(["submit", text, "--server", url]) == 0
    error = capsys.readouterr().err
    assert ("PAYLOAD is not valid JSON" in error and "it is sent as a text" in error) == noted


def test_other_values_are_sent_as_they_are_written(tmp_path: Path) -> None:
    number = "12345678901234567890123.50"
    (tmp_path / "jobs").write_bytes(f'\ufeff{{"payload": {number}, "dedupe_key": "k"}}\n'.encode())
    done = response("200 OK", {"ids": [1], "duplicates": [], "version": 1, "what": "x", "next_at": None, "name": "n"})
    plan = response("200 OK", {"name": "n", "next_at": None, "job": {}, "fires": []})
    with listening(done, done, plan) as (url, asked):
        assert run(["submit", "--bulk", "jobs", "--server", url]) == 0
        assert run(["config", "set", "queue.q.weight", number, "--server", url]) == 0
        assert run(["schedule", "add", "n", number, "--every", "1m", "--server", url]) == 0
    assert f'"payload": {number}'.encode() in asked[0]
    assert f'"value": {number}'.encode() in asked[1]
    assert f'"payload": {number}'.encode() in asked[2]


def test_lines_that_differ_in_a_far_digit_are_two_jobs(tmp_path: Path) -> None:
    digits = "0.1000000000000000055511151231257827"
    (tmp_path / "jobs").write_text(f'{{"payload": {digits}1}}\n{{"payload": {digits}2}}\n')
    with listening(response("200 OK", {"ids": [1, 2], "duplicates": []})) as (url, asked):
        assert run(["submit", "--bulk", "jobs", "--server", url]) == 0
    keys = [job["dedupe_key"] for job in json.loads(asked[0].partition(b"\r\n\r\n")[2])["jobs"]]
    assert all(key.endswith("-1") for key in keys)
    assert len(set(keys)) == 2


def test_numbers_are_shown_as_the_scheduler_sent_them(capsys: pytest.CaptureFixture[str]) -> None:
    number = "12345678901234567890123.50"
    body = f'{{"id": 1, "status": "completed", "payload": [{number}], "result": {number}, "attempts": []}}'.encode()
    reply = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    with listening(reply, reply) as (url, _):
        assert run(["status", "1", "--json", "--server", url]) == 0
        assert run(["status", "1", "--server", url]) == 0
    out = capsys.readouterr().out
    assert out.count(f"[{number}]") == 2
    assert out.count(number) == 4
