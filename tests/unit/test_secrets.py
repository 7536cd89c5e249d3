"""Tests that a secret in the configuration is never printed: not by a refusal, not by a failure, not by the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import structlog

from taskd.cli.main import run
from taskd.dev.servers.ports import free_port
from taskd.runtime import log
from taskd.runtime.secrets import in_text
from taskd.settings import LogSettings

CANARY = "c4n4ry-5ecret"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POSTGRES_DSN", "REDIS_URL", "ETCD_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TASKD_TOKEN", CANARY)


def settings(port: int) -> list[dict[str, str]]:
    return [
        {
            "POSTGRES_DSN": f"postgresql://u:{CANARY}@127.0.0.1:{port}/x",
            "REDIS_URL": f"redis://u:{CANARY}@127.0.0.1:{port}",
        },
        {"POSTGRES_DSN": f"postgresql://u:{CANARY}@127.0.0.1:{port}:7/x", "REDIS_URL": f"http://u:{CANARY}@127.0.0.1"},
        {"POSTGRES_DSN": f"password={CANARY} nonsense", "REDIS_URL": f"redis://u:{CANARY}@127.0.0.1:x"},
        {
            "POSTGRES_DSN": f"host=127.0.0.1 port={port} password='{CANARY}",
            "REDIS_URL": f"redis://:{CANARY}@h:1/x?db={CANARY}",
        },
        {"ETCD_ENDPOINTS": f"http://u:{CANARY}@127.0.0.1:{port}"},
        {
            "TASKD_WORKER__TRANSACTION_DSN": f"postgresql://u:{CANARY}@h/x",
            "POSTGRES_DSN": f"postgresql://u:{CANARY}@127.0.0.1:{port}/x",
        },
    ]


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("command", ["doctor", "migrate"])
def test_no_output_has_a_secret(
    command: str, case: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    variables = settings(free_port())[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run(["--log-level", "DEBUG", command])
    out, err = capfd.readouterr()
    assert out + err
    assert CANARY not in out + err


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("postgresql://u:pa%40ss@h/x", ["pa%40ss"]),
        ("host=h password=pass dbname=x", ["pass"]),
        ("host=h password = 'two words'", ["two"]),
        ("rediss://:pass@h:1/0", ["pass"]),
        ("redis://h:1?password=pass&db=1", ["pass"]),
        ("h:1", []),
        ("postgresql://u@h/x", []),
    ],
)
def test_passwords_are_found_in_every_form(text: str, secrets: list[str]) -> None:
    assert in_text(text) == secrets


@pytest.mark.parametrize("form", ["TEXT", "JSON"])
def test_a_logged_failure_shows_no_local_variables(
    form: Literal["TEXT", "JSON"], capfd: pytest.CaptureFixture[str]
) -> None:
    configured = structlog.get_config()
    log.configure(LogSettings(format=form))
    try:
        _fail(bytes.fromhex(CANARY.encode().hex()).decode())
    except RuntimeError:
        log.logger().exception("failed")
    finally:
        structlog.configure(**configured)
    err = capfd.readouterr().err
    assert "RuntimeError: no use" in err
    assert CANARY not in err


def _fail(secret: str) -> None:
    raise RuntimeError("no use")
