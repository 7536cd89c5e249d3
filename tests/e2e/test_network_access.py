"""Test that a scheduler on a network requires tokens, or does not start."""

from __future__ import annotations

import re
import subprocess
import sys

from tests import web
from tests.e2e.fleet import Fleet, Process
from tests.servers import wait_until

EVERYWHERE = "0.0.0.0:0"


def test_a_network_needs_tokens_or_insecure(fleet: Fleet) -> None:
    refused = fleet.spawn("scheduler", "--http-addr", EVERYWHERE)
    assert refused.popen.wait(30) == 1
    (line,) = [line for line in refused.output.splitlines() if line.startswith("error: ")]
    assert "taskd token create" in line
    assert "--insecure" in line
    assert not re.search(r"\bserving\b", refused.output)

    insecure = fleet.spawn("scheduler", "--http-addr", EVERYWHERE, "--insecure")
    assert web.get(f"{url_of(insecure)}/jobs").status_code == 200
    foreign = {"host": "rebound.example"}
    response = web.post(f"{url_of(insecure)}/jobs", headers=foreign, json={"payload": 1})
    assert (response.status_code, "http.hosts" in response.text) == (421, True)
    assert web.get(f"{url_of(insecure)}/health", headers=foreign).status_code == 200
    insecure.kill()
    listed = fleet.spawn("scheduler", "--http-addr", EVERYWHERE, "--insecure", TASKD_HTTP__HOSTS="rebound.example")
    assert web.post(f"{url_of(listed)}/jobs", headers=foreign, json={"payload": 1}).status_code == 201

    created = subprocess.run(
        [sys.executable, "-m", "taskd", "token", "create", "x", "--scope", "read"],
        env=fleet.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    guarded = fleet.spawn("scheduler", "--http-addr", EVERYWHERE)
    url = url_of(guarded)
    assert web.get(f"{url}/jobs").status_code == 401
    token = {"authorization": f"Bearer {created.stdout.strip()}"}
    assert web.get(f"{url}/jobs", headers=token).status_code == 200
    assert web.get(f"{url}/jobs", headers=token | foreign).status_code == 200
    assert created.stdout.strip() not in guarded.output


def url_of(process: Process) -> str:
    """Return the URL that the scheduler logged."""
    port = wait_until(lambda: re.findall(r"serving.*address=\S*:(\d+)", process.output))[0]
    return f"http://127.0.0.1:{port}"
