"""Tests of settings: flags over environment over TOML over defaults, and refusals that name the key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskd import settings
from taskd.cli import server_defaults
from taskd.cli.main import run
from taskd.domain.errors import ConfigurationError
from taskd.settings import documents


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "taskd.toml"
    file.write_text('[worker]\nconcurrency = 2\nqueues = "file"\nid = "file"\n')
    loaded = settings.load(
        file=file,
        environ={"TASKD_WORKER__CONCURRENCY": "3", "WORKER_ID": "environment"},
        flags={("worker", "id"): "flag", ("worker", "app"): None},
    )
    assert (loaded.worker.id, loaded.worker.concurrency, loaded.worker.queues) == ("flag", 3, "file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[wroker]\n", ["[wroker]", "worker"]),
        ("[worker]\nconcurency = 3\n", ["[worker]", "'concurency'", "concurrency"]),
        ('[worker]\nconcurrency = "3"\n', ["[worker]", "'concurrency'", "must be a whole number"]),
        ("[worker]\nconcurrency = 0\n", ["[worker]", "'concurrency'", "of at least 1"]),
        ("worker = 3\n", ["worker", "section"]),
        ("[worker\n", ["no TOML"]),
    ],
)
def test_a_wrong_file_is_refused_naming_file_section_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        settings.load(file=file, environ={})
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_a_wrong_variable_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="TASKD_HTTP__ADR"):
        settings.load(environ={"TASKD_HTTP__ADR": "x"})
    with pytest.raises(ConfigurationError, match="LOG_LEVEL"):
        settings.load(environ={"LOG_LEVEL": "loud"})


def test_the_names_of_the_specification_work() -> None:
    loaded = settings.load(
        environ={
            "HTTP_ADDR": ":1",
            "POSTGRES_DSN": "dsn",
            "REDIS_URL": "r:1",
            "ETCD_ENDPOINTS": "a:1,b:2",
            "REDIS_STREAM_NAME": "s",
            "REDIS_GROUP_NAME": "g",
            "WORKER_ID": "w",
            "WORKER_HTTP_ADDR": ":2",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
        }
    )
    assert (loaded.http.addr, loaded.postgres.dsn, loaded.redis.url) == (":1", "dsn", "r:1")
    assert (loaded.etcd.endpoints, loaded.redis.stream, loaded.redis.group) == ("a:1,b:2", "s", "g")
    assert (loaded.worker.id, loaded.worker.http_addr, loaded.log.level, loaded.log.format) == (
        "w",
        ":2",
        "DEBUG",
        "JSON",
    )


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://user:pass@host/db\n")
    assert settings.load(environ={"POSTGRES_DSN_FILE": str(secret)}).postgres.dsn == "postgresql://user:pass@host/db"
    with pytest.raises(ConfigurationError, match="POSTGRES_DSN_FILE"):
        settings.load(environ={"POSTGRES_DSN_FILE": str(tmp_path / "missing")})


def test_the_example_file_names_every_setting_with_its_default() -> None:
    assert tomllib.loads(documents.as_toml()) == msgspec.to_builtins(settings.Settings())


def test_the_configuration_page_has_the_texts_of_the_settings() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    assert documents.as_markdown() in page, "run: python -m taskd.settings --markdown, and put it into the page"


EVERY_KEY = [
    (section, key, value)
    for section, values in msgspec.to_builtins(settings.Settings()).items()
    for key, value in values.items()
]


@pytest.mark.parametrize(("section", "key", "value"), EVERY_KEY)
def test_every_key_has_its_variable_and_one_that_names_a_file(
    section: str, key: str, value: Any, tmp_path: Path
) -> None:
    name = f"TASKD_{section.upper()}__{key.upper()}"
    file = tmp_path / "value"
    file.write_text(str(value))
    for given in ({name: str(value)}, {f"{name}_FILE": str(file)}):
        assert settings.load(environ=given) == settings.Settings()
    other = {bool: not value, str: "INFO" if key == "level" else "TEXT" if key == "format" else "other"}.get(
        type(value)
    )
    if other is not None:
        assert getattr(getattr(settings.load(environ={name: str(other)}), section), key) == other


#: A broken rule's setting and the one it is compared with, the widest values that hold and the nearest that do not.
RELATIONS = [
    (("worker", "heartbeat"), ("worker", "session_ttl"), ("2.4999", "5"), ("2.5", "5")),
    (("scheduler", "leader_renew"), ("scheduler", "leader_stale"), ("4.9999", "10"), ("5", "10")),
    (("worker", "stop_grace"), ("worker", "grace"), ("7", "7"), ("7.0001", "7")),
    (("etcd", "ttl"), ("scheduler", "leader_stale"), ("20", "10"), ("20.0001", "10")),
]


@pytest.mark.parametrize(("left", "right", "holds", "broken"), RELATIONS)
def test_times_that_do_not_fit_together_are_refused_by_both_names(
    left: tuple[str, str], right: tuple[str, str], holds: tuple[str, str], broken: tuple[str, str]
) -> None:
    loaded = settings.load(environ={}, flags=dict(zip((left, right), holds, strict=True)))
    assert settings.unfit_times(loaded) == []
    given = dict(zip((left, right), broken, strict=True))
    with pytest.raises(ConfigurationError) as caught:
        settings.load(environ={}, flags=given)
    line = str(caught.value)
    for (section, key), value in given.items():
        assert f"{section}.{key} ({value} s)" in line
    assert "less than" in line or "at most" in line
    assert "\n" not in line
    assert settings.unfit_times(settings.load(environ={}, flags=given, related=False)) == [line]


def test_one_of_two_related_times_from_another_source_counts(tmp_path: Path) -> None:
    file = tmp_path / "taskd.toml"
    file.write_text("[worker]\nheartbeat = 60\n")
    with pytest.raises(
        ConfigurationError, match=r"twice worker\.heartbeat \(60 s\) must be less than worker\.session_ttl"
    ):
        settings.load(file=file, environ={})
    loaded = settings.load(file=file, environ={"TASKD_WORKER__SESSION_TTL": "121"})
    assert loaded.worker.session_ttl == 121


def test_every_process_that_reads_settings_refuses_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKD_WORKER__HEARTBEAT", "60")
    monkeypatch.setenv("TASKD_WORKER__SESSION_TTL", "5")
    for command in (["scheduler"], ["worker"], ["migrate", "--check"], ["token", "list"], ["torture"]):
        assert run(command) == 1, command
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("error: twice worker.heartbeat (60 s) must be less than worker.session_ttl (5 s): ")


def test_a_client_does_without_the_times_of_other_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may have one of two related times: the other is in an environment that the client does not read."""
    file = tmp_path / "taskd.toml"
    file.write_text('[worker]\nheartbeat = 60\n[client]\nserver = "http://taskd.invalid"\n')
    monkeypatch.delenv("TASKD_SERVER", raising=False)
    assert server_defaults.server("http://localhost:8080", file, chosen=False) == "http://taskd.invalid"
