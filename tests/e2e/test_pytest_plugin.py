"""Test the fixture `taskd_cluster` in a separate project, as a user has it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from taskd.dev.process import descendants, identity
from taskd.dev.sandbox import PREFIX
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
#: Seconds that a session may take on a busy machine.
PATIENCE = 400

TASKS = """
import os, time
import taskd

app = taskd.App()

@app.task(queue="sums")
def add(a: int, b: int) -> int:
    print(f"adding {a} and {b}")
    return a + b

@app.task(queue="other", max_retries=0)
async def fail(ctx: taskd.Context) -> None:
    ctx.log.warning("about to fail")
    raise ValueError("as was asked")

@app.task
def forever() -> None:
    while True:
        time.sleep(0.01)

@app.task
def process() -> list:
    return [os.getpid(), os.environ.get("COLOUR")]

@app.task
async def parent(ctx: taskd.Context) -> int:
    return (await ctx.submit(add, 1, b=2)).id
"""

TESTS = """
import pytest
import taskd
from tasks import app, add, fail, forever, parent, process

def test_a_result(taskd_cluster):
    taskd_cluster.worker(app)
    assert add.submit_sync(1, b=2).result(timeout=60) == 3
    assert [job["task"] for job in taskd_cluster.jobs(status="completed")] == ["add"]

async def test_async_and_children(taskd_cluster):
    taskd_cluster.worker("tasks")
    assert taskd_cluster.jobs() == []
    child = await (await parent.submit()).result(timeout=60)
    taskd_cluster.wait()
    assert add.handle_sync(child).result() == 3
    await app.aclose()

def test_a_failure(taskd_cluster):
    taskd_cluster.worker(app)
    with pytest.raises(taskd.JobFailed, match="as was asked"):
        fail.submit_sync().result(timeout=60)
    assert "about to fail" in taskd_cluster.said()

seen = []

def test_a_worker_is_kept(taskd_cluster):
    taskd_cluster.worker(app)
    taskd_cluster.client.configure("queue.sums.paused", True, "test")
    seen.append(process.submit_sync().result(timeout=60))

def test_and_one_with_a_job_in_hand_is_not(taskd_cluster):
    taskd_cluster.worker(app)
    assert add.submit_sync(1, 2).result(timeout=60) == 3  # not paused any more
    assert process.submit_sync().result(timeout=60) == seen[0]
    with pytest.raises(TimeoutError, match=r"after 0.5 seconds: \\d+ .forever. is running in the queue 'default'"):
        forever.submit_sync()
        taskd_cluster.wait(timeout=0.5)

def test_a_new_one(taskd_cluster):
    taskd_cluster.worker(app, environment={"COLOUR": "red"})
    pid, colour = process.submit_sync().result(timeout=60)
    assert pid != seen[0][0] and colour == "red"
    assert len(taskd_cluster.jobs()) == 1

def test_what_cannot_be_started(taskd_cluster):
    with pytest.raises(ModuleNotFoundError):
        taskd_cluster.worker("nowhere")
    with pytest.raises(LookupError, match="is no variable of a module"):
        taskd_cluster.worker(taskd.App())
    with pytest.raises(Exception, match="has server='http://production'"):
        taskd_cluster.worker("elsewhere")
    with pytest.raises(Exception, match="worker-\\\\d+ ended at once .*no value for 'x'"):
        taskd_cluster.worker("broken")

def test_that_fails(taskd_cluster):
    taskd_cluster.worker(app)
    fail.submit_sync().result(timeout=60)
"""

BROKEN = """
import taskd
app = taskd.App()
@app.on_start
def begin():
    raise RuntimeError("no value for 'x'")
"""


def project(folder: Path, tests: str = TESTS) -> Path:
    """Write tasks and tests to the folder and return it."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "broken.py").write_text(BROKEN)
    (folder / "elsewhere.py").write_text("import taskd\napp = taskd.App(server='http://production')\n")
    (folder / "test_tasks.py").write_text(tests)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\npythonpath = .\n"
    )
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start pytest in the folder, with taskd's plugin and without those of this environment."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "src")}
    plugins = ("-p", "taskd.pytest_plugin", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *plugins, *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


def test_a_project_has_a_cluster_of_its_own(tmp_path: Path) -> None:
    before = folders()
    running = start(project(tmp_path))
    output, _ = running.communicate(timeout=PATIENCE)
    assert "1 failed, 7 passed" in output, output
    assert "JobFailed" in output
    assert "about to fail" in output.split("Captured stdout teardown")[1], output
    assert folders() <= before


def test_nothing_is_left_of_a_killed_session(tmp_path: Path) -> None:
    waiting = (
        "import time\nfrom tasks import app\n"
        "def test_it(taskd_cluster):\n    taskd_cluster.worker(app)\n    open('up', 'w').close()\n    time.sleep(600)\n"
    )
    before = folders()
    running = start(project(tmp_path, waiting))
    wait_until((tmp_path / "up").exists, PATIENCE)
    (folder,) = folders() - before
    alive = {pid: identity(pid) for pid in descendants(running.pid)}
    assert len(alive) > 8
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=30)
    wait_until(lambda: not any(known is not None and identity(pid) == known for pid, known in alive.items()), 30)
    assert folder.exists()
    quick = "def test_it(taskd_cluster):\n    assert taskd_cluster.jobs() == []\n"
    again = start(project(tmp_path, quick))
    output, _ = again.communicate(timeout=PATIENCE)
    assert "1 passed" in output, output
    assert not folder.exists()


DEATHS = """
import os, signal, time
import pytest
from taskd.dev.process import descendants
from tasks import app, add, forever, process

@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_worker_is_replaced_at_once(taskd_cluster, number):
    taskd_cluster.worker(app)
    before = taskd_cluster.worker_pids
    for pid in before:
        os.kill(pid, number)
    taskd_cluster.worker(app)
    after = taskd_cluster.worker_pids
    assert set(after) - set(before)
    assert add.submit_sync(1, 2).result(timeout=60) == 3
    (serving,) = taskd_cluster._workers.values()
    assert serving.child.pid not in before

def test_again_and_again(taskd_cluster):
    for _ in range(3):
        taskd_cluster.worker(app)
        (pid,) = taskd_cluster.worker_pids
        os.kill(pid, signal.SIGKILL)
    taskd_cluster.worker(app)
    assert pid not in taskd_cluster.worker_pids
    assert add.submit_sync(1, 2).result(timeout=60) == 3

def test_its_job_does_not_wait_for_the_lease(taskd_cluster):
    taskd_cluster.worker(app)
    job = forever.submit_sync()
    while taskd_cluster.jobs(status="running") == []:
        time.sleep(0.01)
    killed = time.monotonic()
    for pid in taskd_cluster.worker_pids:
        os.kill(pid, signal.SIGKILL)
    taskd_cluster.worker(app)
    while (now := taskd_cluster.client.job(job.id))["attempt"] < 2:
        time.sleep(0.01)
    assert now["attempts"][0]["outcome"] == "lost"
    assert time.monotonic() - killed < 12  # a lease is 15 seconds

def test_one_that_lives_is_kept(taskd_cluster):
    taskd_cluster.worker(app)
    before = taskd_cluster.worker_pids
    taskd_cluster.worker(app)
    assert taskd_cluster.worker_pids == before

def test_that_kills_the_scheduler(taskd_cluster):
    os.kill(taskd_cluster._scheduler.child.pid, signal.SIGKILL)

def test_after_that_one(taskd_cluster):
    taskd_cluster.worker(app)
    assert add.submit_sync(1, 2).result(timeout=60) == 3
"""


def test_processes_that_a_test_kills_are_replaced(tmp_path: Path) -> None:
    output, _ = start(project(tmp_path, DEATHS)).communicate(timeout=PATIENCE)
    assert "8 passed" in output, output


def test_the_programs_of_the_page_run(tmp_path: Path) -> None:
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (tmp_path / name).write_text(text)
    # Without a value pytest-asyncio warns.
    output, _ = start(tmp_path, "-o", "asyncio_default_fixture_loop_scope=function").communicate(timeout=PATIENCE)
    assert "6 passed" in output, output


def test_the_plugin_imports_nothing_before_it_is_used() -> None:
    code = "import sys, taskd.pytest_plugin; print([m for m in sys.modules if m[:6] == 'taskd.'], 'psycopg' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['taskd.pytest_plugin'] False"
