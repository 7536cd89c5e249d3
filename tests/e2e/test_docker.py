"""Test deploy/docker: the image is built, the cluster comes up, works, and outlives its leader.

The test is left out without a Docker engine. POSTGRES_IMAGE, REDIS_IMAGE, ETCD_IMAGE and PYTHON_IMAGE replace the
images of compose.yaml, for example with those of a mirror.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pytest_docker.plugin import Services

from taskd.client import Client, ClientError
from taskd.dev.servers.ports import free_port
from tests.servers import wait_until

COMPOSE = Path(__file__).parents[2] / "deploy" / "docker" / "compose.yaml"


def engine() -> bool:
    """Return True if a Docker engine answers."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not engine(), reason="left out: no Docker engine answers"),
]


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Return the command of the plugin, or of the older program if the plugin is missing."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return "docker compose" if plugin.returncode == 0 else "docker-compose"


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """Return the file that users get."""
    return str(COMPOSE)


@pytest.fixture(scope="session")
def ports() -> Iterator[list[int]]:
    """Return free ports, at which the two schedulers are published."""
    free_ports = [free_port(), free_port()]
    with pytest.MonkeyPatch.context() as patch:
        for number, port in enumerate(free_ports, 1):
            patch.setenv(f"SCHEDULER_{number}_PORT", str(port))
        yield free_ports


@pytest.fixture(scope="session")
def docker_setup(ports: list[int]) -> list[str]:
    """Return the command `up` without --wait, which the older program lacks."""
    return ["up --build --detach"]


@pytest.fixture
def client(ports: list[int], docker_services: Services) -> Client:
    """Return a client of both schedulers when all five processes are registered."""
    servers = ",".join(f"http://127.0.0.1:{port}" for port in ports)

    def complete() -> bool:
        with suppress(ClientError), Client(servers, patience=1.0) as probe:
            members = {kind: len(probe.get(f"/{kind}")[kind]) for kind in ("workers", "schedulers")}
            return probe.health()["status"] == "healthy" and members == {"workers": 3, "schedulers": 2}
        return False

    wait_until(complete, timeout=180)
    return Client(servers, patience=60.0)


def test_a_cluster_of_containers_works_and_outlives_its_leader(client: Client, docker_services: Services) -> None:
    def compose(command: str) -> str:
        return str(docker_services._docker_compose.execute(command).decode())

    with client:
        jobs = [client.submit({"task": "sleep", "payload": 0.2, "dedupe_key": f"first-{n}"})["id"] for n in range(50)]
        assert {client.wait(job, 60)["status"] for job in jobs} == {"completed"}
        leader = client.get("/leader")["current_leader"]
        name = next(n for n in ("scheduler-1", "scheduler-2") if leader.startswith(n))
        compose(f"kill {name}")
        more = [client.submit({"task": "sleep", "payload": 0.2, "dedupe_key": f"then-{n}"})["id"] for n in range(50)]
        ended = [client.wait(job, 60) for job in more]
        assert {job["status"] for job in ended} == {"completed"}
        assert {job["attempts"][0]["worker_id"] for job in ended} <= {"worker-1", "worker-2", "worker-3"}

        # Draining: the container ends by itself, after its running task.
        last = client.submit({"task": "sleep", "payload": 3})["id"]
        wait_until(lambda: client.job(last)["status"] == "running", timeout=30)
        worker = client.job(last)["worker_id"]
        compose(f"stop {worker}")
        drained = client.job(last)
        assert (drained["status"], drained["attempt"], drained["worker_id"]) == ("completed", 1, worker)
        container = compose(f"ps -a -q {worker}").strip()
        inspected = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
        assert json.loads(inspected.stdout)[0]["State"]["ExitCode"] == 0
