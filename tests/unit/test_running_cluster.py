"""Tests of the dev cluster in a folder as other commands find it: it runs, and its owner is trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from taskd import settings
from taskd.cli import server_defaults
from taskd.dev import running_cluster
from taskd.dev.process import identity
from taskd.dev.running_cluster import FILE, RunningCluster, find, forget, write
from taskd.dev.servers.fixed_ports import DEFAULTS, FixedPorts
from taskd.dev.servers.ports import is_free
from taskd.domain.errors import ConfigurationError
from taskd.settings import load

HERE = RunningCluster(
    pid=os.getpid(), identity=identity(os.getpid()) or "", schedulers=[8080], postgres=1, redis=2, etcd=3
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data folder of a running cluster in the current folder, without any configuration."""
    for name in list(os.environ):
        if name.startswith(("TASKD_", "POSTGRES_", "REDIS_", "ETCD_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    data = tmp_path / ".taskd"
    data.mkdir(mode=0o755)
    write(data, HERE)
    return data


def test_a_running_cluster_is_found_and_a_forgotten_one_is_not(folder: Path) -> None:
    cluster = find()
    assert cluster == HERE
    assert cluster.variables == {
        "POSTGRES_DSN": "postgresql://taskd@127.0.0.1:1/taskd?sslmode=disable",
        "REDIS_URL": "redis://127.0.0.1:2",
        "ETCD_ENDPOINTS": "127.0.0.1:3",
        "TASKD_SERVER": "http://localhost:8080",
    }
    forget(folder)
    assert find() is None
    with pytest.raises(ConfigurationError, match=r"no dev cluster of yours is running in \.taskd"):
        running_cluster.require(running_cluster.DEFAULT_FOLDER)


def test_a_cluster_whose_process_is_gone_is_not_found(folder: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(folder, msgspec.structs.replace(HERE, pid=child.pid, identity=identity(child.pid) or ""))
    assert find() is not None
    child.communicate(b"\n")
    assert find() is None
    write(folder, msgspec.structs.replace(HERE, identity="another boot:1"))
    assert find() is None


@pytest.mark.parametrize("part", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_file_that_others_may_write_is_not_trusted(folder: Path, part: str, mode: int) -> None:
    (folder if part == "folder" else folder / FILE).chmod(mode)
    assert find() is None


@pytest.mark.parametrize("part", ["folder", "file"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_trusted(folder: Path, part: str) -> None:
    os.chown(folder if part == "folder" else folder / FILE, 65534, 65534)
    assert find() is None


def test_links_and_pipes_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / FILE).rename(tmp_path / "real")
    (folder / FILE).symlink_to(tmp_path / "real")
    assert find() is None
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)
    assert find() is None
    (folder / FILE).unlink()
    write(folder, HERE)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert find() is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"pid":1}', "x" * 200_000]
    + ['{"pid":-1,"identity":"","schedulers":[1],"postgres":1,"redis":1,"etcd":1}']
    + [msgspec.json.encode(HERE).decode().replace('"postgres":1', f'"postgres":{bad}')
       for bad in ("0", "65536", '"db.example"')]
    + [msgspec.json.encode(HERE).decode().replace("}", ',"dsn":"postgresql://db.example"}')],
    ids=range(11),  # not by the text: it has this process's id, and every process must collect the same tests
)  # fmt: skip
def test_a_file_with_other_content_is_not_trusted(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    assert find() is None


def test_a_command_without_configuration_uses_it_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert server_defaults.servers(None, "http://localhost:8080") == HERE.settings
    assert capsys.readouterr().err == "using the dev cluster in ./.taskd\n"
    assert os.environ.pop("TASKD_SERVER") == "http://localhost:8080"
    assert server_defaults.server("http://localhost:8080", None, chosen=False) == "http://localhost:8080"
    assert capsys.readouterr().err == "using the dev cluster in ./.taskd\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_DSN", "postgresql://db.example/taskd"),
        ("TASKD_POSTGRES__DSN", "postgresql://db.example/taskd"),
        ("REDIS_URL", "redis.example:6379"),
        ("TASKD_REDIS__URL", "redis.example:6379"),
        ("ETCD_ENDPOINTS", "etcd.example:2379"),
        ("TASKD_SERVER", "http://taskd.example"),
    ],
)
def test_any_configured_server_switches_it_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert server_defaults.servers(None, os.environ.get("TASKD_SERVER", "http://localhost:8080")) == {}
    chosen = name == "TASKD_SERVER"
    assert server_defaults.server(value if chosen else "http://localhost:8080", None, chosen=chosen).startswith("http")
    assert capsys.readouterr().err == ""


def test_variables_of_other_parts_do_not_keep_a_client_from_asking(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_DSN_FILE", "/nowhere")
    monkeypatch.setenv("TASKD_WORKER__CONCURRENCY", "many")
    (folder / "token").write_text("taskd_from_a_file\n")
    monkeypatch.setenv("TASKD_TOKEN_FILE", str(folder / "token"))
    assert server_defaults.server("http://localhost:1", None, chosen=False) == "http://localhost:1"
    assert server_defaults.credentials() == ("taskd_from_a_file", None)


def test_the_usual_files_are_those_of_the_settings() -> None:
    assert server_defaults.FILES == settings.DEFAULT_FILES
    assert {settings.ENVIRONMENT[name][0] for name in server_defaults.SIMPLE_VARIABLES} == {"client"}


def test_an_empty_variable_is_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKD_SERVER", "")
    assert server_defaults.servers(None, "") == HERE.settings
    assert server_defaults.server("http://localhost:1", None, chosen=False) == "http://localhost:8080"


def test_a_configuration_file_switches_it_off_and_names_the_clients_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taskd.toml").write_text('[client]\nserver = "http://taskd.example:1"\ntoken = "taskd_from_file"\n')
    assert server_defaults.server("http://localhost:8080", None, chosen=False) == "http://taskd.example:1"
    assert server_defaults.credentials() == ("taskd_from_file", None)
    assert server_defaults.server("http://flag:2", None, chosen=True) == "http://flag:2"
    monkeypatch.setenv("TASKD_TOKEN", "taskd_from_environment")
    server_defaults.server("http://localhost:8080", None, chosen=False)
    assert server_defaults.credentials() == ("taskd_from_environment", None)
    assert server_defaults.servers(None, "http://taskd.example:1") == {}
    Path("taskd.toml").write_text('[postgres]\ndsn = "postgresql://db.example/taskd"\n')
    assert server_defaults.servers(None, "http://localhost:8080") == {}
    assert capsys.readouterr().err == ""


def test_a_worker_hands_the_schedulers_of_its_file_on_to_its_tasks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("taskd.toml").write_text('[client]\nserver = "http://taskd.example:1"\ntoken = "taskd_from_file"\n')
    monkeypatch.setenv("TASKD_TOKEN", "mine")
    monkeypatch.setenv("TASKD_SERVER", "")
    server_defaults.export_client(load(environ={}).client)
    assert (os.environ["TASKD_SERVER"], os.environ["TASKD_TOKEN"]) == ("http://taskd.example:1", "mine")


def test_ports_are_the_same_in_every_run_and_no_two_clusters_share_one(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    with FixedPorts(folders[0]) as first, FixedPorts(folders[1]) as second:
        first.choose()
        second.choose()
        assert not set(first.chosen.values()) & set(second.chosen.values())
        assert first.chosen.keys() == DEFAULTS.keys()
        assert [name for name, _ in second.lines] == list(DEFAULTS)
        assert f"port {first.chosen['Redis']} is taken" in dict(second.lines)["Redis"] or first.lines
        kept = second.chosen
    with FixedPorts(folders[1]) as again:
        again.choose()
    assert all(is_free(port) for port in kept.values())
    assert (again.chosen, again.lines) == (kept, [])
