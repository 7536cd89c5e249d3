"""Test `taskd dev` as a user runs it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from taskd.dev.process import descendants, identity
from taskd.dev.servers.ports import free_port
from tests.servers import wait_until

UP = "taskd is up"
ROOT = Path(__file__).parents[2]
SHOP = """
import taskd
app = taskd.App()
@app.task
def double(n: int) -> int:
    return 2 * n
@app.task
async def lend(ctx, n: int) -> int:
    return (await ctx.submit(double, n)).id
"""
HOURLY = """
import taskd
app = taskd.App()
@app.every(3600, name='hourly')
@app.task
def tick() -> int:
    return 1
"""
#: Variables that configure taskd.
FOREIGN = ("TASKD_", "POSTGRES_", "REDIS_", "ETCD_")


class Supervisor:
    """Process of `taskd dev` with its output."""

    def __init__(self, data: Path, *options: str) -> None:
        self.port = free_port()
        self.data = data
        self.output = data.with_name(f"{data.name}-{self.port}.txt")
        # Servers that a user has configured for another purpose: the cluster's processes must not use them.
        foreign = {
            "POSTGRES_DSN_FILE": "/nowhere",
            "TASKD_REDIS__URL": "nowhere:1",
            "ETCD_ENDPOINTS": "nowhere:2",
            "PGSSLMODE": "require",
            "TASKD_SERVER": "http://127.0.0.1:3",
        }
        with self.output.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "taskd", "dev", "--data", str(data), "--port", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=data.parent,
                env=os.environ | foreign,
            )

    @property
    def printed(self) -> str:
        return self.output.read_text("utf-8")

    def await_up(self) -> Supervisor:
        wait_until(lambda: UP in self.printed or self.popen.poll() is not None, 60)
        assert self.popen.poll() is None, self.printed
        return self

    def children(self) -> dict[int, str | None]:
        """Return the identities of all processes of the cluster, by pid."""
        recorded = [int(file.read_text("ascii").split()[0]) for file in (self.data / "run").glob("*.pid")]
        return {pid: identity(pid) for pid in [*recorded, *descendants(self.popen.pid)]}

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "taskd", *arguments, "--server", f"http://127.0.0.1:{self.port}"],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | environment,
        )


@pytest.fixture
def dev(private_folder: Path) -> Iterator[Callable[..., Supervisor]]:
    """Return a function that starts `taskd dev` on the test's data folder."""
    started: list[Supervisor] = []

    def start(*options: str) -> Supervisor:
        started.append(Supervisor(private_folder / "data", *options))
        return started[-1]

    yield start
    for supervisor in started:
        if supervisor.popen.poll() is None:
            children = supervisor.children()
            supervisor.popen.kill()
            supervisor.popen.wait()
            wait_until(partial(_gone, children), 30)


def test_a_cluster_comes_up_runs_a_job_outlives_its_own_death_and_leaves_nothing(
    dev: Callable[..., Supervisor], private_folder: Path
) -> None:
    (private_folder / "shop.py").write_text(SHOP, "utf-8")
    first = dev("--app", "shop").await_up()
    done = first.call("submit", '{"n": 21}', "--task", "double", "--wait", "20", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["result"] == 42
    lent = first.call("submit", '{"n": 21}', "--task", "lend", "--wait", "20")
    assert lent.returncode == 0, lent.stdout + lent.stderr  # jobs that a task submits come to this cluster
    # A user's app has no task `echo` to try; the command that is shown instead works when it is pasted.
    (shown,) = [line for line in first.printed.splitlines() if "submit --task double --queue default" in line]
    pasted = first.call(*shlex.split(shown.partition("taskd ")[2]), "--wait", "20", "--json")
    assert json.loads(pasted.stdout)["result"] == 2

    # From now on every client needs a token. The supervisor has none, and must check the cluster in another way.
    token = {"TASKD_TOKEN": create_token(first)}

    children = first.children()
    assert len(children) >= 5
    first.popen.kill()
    first.popen.wait()
    wait_until(partial(_gone, children), 30)

    second = dev("--app", "shop").await_up()
    assert second.call("status", str(job["id"])).returncode == 1
    kept = json.loads(second.call("status", str(job["id"]), "--json", **token).stdout)
    assert (kept["status"], kept["result"]) == ("completed", 42)
    again = second.call("submit", '{"n": 4}', "--task", "double", "--wait", "20", **token)
    assert again.returncode == 0, again.stderr

    children = second.children()
    second.popen.terminate()
    assert second.popen.wait(timeout=40) == 0, second.printed
    assert _gone(children), second.printed
    assert "everything is down" in second.printed
    assert "Traceback" not in first.printed + second.printed


def create_token(cluster: Supervisor) -> str:
    """Create a token with the scope admin in the cluster's PostgreSQL and return it."""
    dsn = next(word for word in cluster.printed.split() if word.startswith("postgresql://"))
    created = subprocess.run(
        [sys.executable, "-m", "taskd", "token", "create", "me", "--scope", "admin"],
        env=os.environ | {"POSTGRES_DSN": dsn},
        capture_output=True,
        text=True,
        check=True,
    )
    return created.stdout.strip()


def test_what_dies_is_started_again_with_a_line_that_says_so(dev: Callable[..., Supervisor]) -> None:
    cluster = dev().await_up()
    for name in ("worker-1", "scheduler-1", "postgresql"):
        pid = int((cluster.data / "run" / f"{name}.pid").read_text("ascii").split()[0])
        os.kill(pid, 9)
    wait_until(lambda: cluster.printed.count("started again") >= 3, 30)
    wait_until(lambda: cluster.call("submit", "5", "--wait", "20").returncode == 0, 40)


def test_a_taken_port_and_a_folder_in_use_are_one_line_each(dev: Callable[..., Supervisor]) -> None:
    running = dev().await_up()
    same_folder = dev()
    assert same_folder.popen.wait(timeout=30) == 1
    assert "is in use by another `taskd dev`" in same_folder.printed
    other = running.data.with_name("other")
    taken = subprocess.run(
        [sys.executable, "-m", "taskd", "dev", "--data", str(other), "--port", str(running.port)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"error: port {running.port} is taken")
    assert taken.stderr.count("\n") == 1


def _gone(processes: dict[int, str | None]) -> bool:
    return all(was is None or identity(pid) != was for pid, was in processes.items())


def test_the_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # `make demo ARGS=--exit`, with the tests' environment instead of one that make would set up first.
    venv = Path(sys.prefix)
    demo = subprocess.run(
        ["make", "demo", f"ARGS=--exit --port {free_port()}", f"VENV={venv}", "--old-file", f"{venv}/ready-to-run"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "jobs ended as expected" in demo.stdout
    assert list(tmp_path.iterdir()) == []


def check_environment(exported: subprocess.CompletedProcess[str], cluster: Supervisor) -> None:
    """Check that a shell with the output of `taskd dev --env` has the cluster's addresses."""
    assert exported.stderr == ""
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{exported.stdout}\nprintf "%s %s" "$POSTGRES_DSN" "$TASKD_SERVER"'],
        capture_output=True,
        text=True,
        check=True,
    )
    dsn, server = shell.stdout.split()
    assert f"{dsn.removesuffix('?sslmode=disable')}\n" in cluster.printed.replace(" \n", "\n").replace("  ", "")
    assert server == f"http://localhost:{cluster.port}"


class ProjectFolder:
    """A user's folder with the app `shop`, and the commands that the user types there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = folder / "shop.py"
        self.module.write_text(HOURLY, "utf-8")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}

    def call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "taskd", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self._environment | more,
        )

    def follow_advice(self) -> None:
        """Submit a job to a queue without a worker, start the worker that `explain` advises, and await the job."""
        job = self.call("submit", "--task", "tick", "--queue", "nightly", "null", "--json")
        assert job.returncode == 0, job.stderr
        job_id = str(json.loads(job.stdout)["id"])
        advice = json.loads(self.call("explain", job_id, "--json").stdout)["advice"]
        arguments = advice.partition("taskd ")[2].replace("MODULE", "shop").split()
        assert arguments == ["worker", "--queues", "nightly", "--app", "shop"]
        worker = subprocess.Popen(
            [sys.executable, "-m", "taskd", *arguments, "--http-addr", ""],
            cwd=self.folder,
            env=self._environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: '"completed"' in self.call("status", job_id, "--json").stdout, 30)
        finally:
            worker.terminate()
            worker.wait(30)


def test_commands_in_the_folder_find_the_cluster_and_declared_schedules_are_applied(private_folder: Path) -> None:
    project = ProjectFolder(private_folder)
    none = project.call("dev", "--env")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr == "error: no dev cluster of yours is running in .taskd: start one with taskd dev\n"

    cluster = Supervisor(private_folder / ".taskd", "--app", "shop", "--reload", "--workers", "2")
    try:
        cluster.await_up()
        wait_until(lambda: "schedules  made hourly" in cluster.printed, 30)
        used = "using the dev cluster in ./.taskd\n"
        for command in (("doctor",), ("migrate",), ("status",), ("schedule", "list"), ("token", "list")):
            result = project.call(*command)
            assert (result.returncode, result.stderr) == (0, used), (command, result)
        check_environment(project.call("dev", "--env"), cluster)
        project.follow_advice()

        configured = project.call("migrate", REDIS_URL="127.0.0.1:1", POSTGRES_DSN="postgresql://127.0.0.1:1/x")
        assert configured.returncode == 1
        assert used not in configured.stderr

        project.module.write_text(project.module.read_text("utf-8").replace("hourly", "daily"), "utf-8")
        wait_until(lambda: "schedules  made daily; removed hourly" in cluster.printed, 30)
    finally:
        cluster.popen.terminate()
        cluster.popen.wait(40)
    assert project.call("dev", "--env").returncode == 1
    assert not (private_folder / ".taskd" / "cluster.json").exists()
