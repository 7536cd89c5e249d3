"""Test that a password in the configuration is in no log line of a scheduler or worker, also in errors."""

from __future__ import annotations

from taskd.dev.servers.ports import free_port
from tests.e2e.fleet import Fleet
from tests.servers import wait_until

CANARY = "c4n4ry-5ecret"


def test_logs_have_no_password(fleet: Fleet) -> None:
    port = free_port()
    environment = {
        "POSTGRES_DSN": f"postgresql://u:{CANARY}@127.0.0.1:{port}/x",
        "REDIS_URL": f"redis://u:{CANARY}@127.0.0.1:{port}",
        "LOG_LEVEL": "DEBUG",
    }
    for arguments in (["scheduler", "--http-addr", "127.0.0.1:0"], ["worker", "--http-addr", ""]):
        process = fleet.spawn(*arguments, **environment)
        wait_until(lambda one=process: "PostgreSQL is away" in one.output and "Redis is away" in one.output)  # type: ignore[misc]
        process.popen.terminate()
        process.popen.wait(30)
        assert CANARY not in process.output
