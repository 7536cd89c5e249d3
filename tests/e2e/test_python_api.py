"""Test submitting from Python with a real scheduler and worker, and the programs of docs/python-api.md."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import taskd
from taskd import ClientError, JobCancelled, JobFailed
from tests.e2e.fleet import Fleet, Process, scheduler_of
from tests.e2e.tasks import app, block, echoes, flaky, nap
from tests.servers import wait_until

README = Path(__file__).parents[2] / "README.md"
DOCS = Path(__file__).parents[2] / "docs"
PAGE, TRANSACTIONS = DOCS / "python-api.md", DOCS / "transactions.md"


@pytest.fixture
def scheduler(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Return a scheduler that the tasks' App finds."""
    with scheduler_of(app, fleet, monkeypatch) as process:
        yield process


@pytest.fixture
async def loop_closed(scheduler: Process) -> AsyncIterator[None]:
    """Close what a test's event loop has opened."""
    yield
    await app.aclose()


@pytest.mark.usefixtures("loop_closed")
async def test_jobs_are_submitted_awaited_and_cancelled(fleet: Fleet) -> None:
    waiting = await nap.submit(0.01)
    assert await waiting.status() in ("pending", "queued")
    with pytest.raises(TimeoutError, match=f"job {waiting.id} is still (pending|queued) after 0.05 seconds"):
        await waiting.result(timeout=0.05)
    unwanted = await nap.options(delay=600).submit(0)
    assert await unwanted.cancel()
    assert await unwanted.cancel()
    assert await unwanted.wait() == "cancelled"
    with pytest.raises(JobCancelled, match=f"job {unwanted.id} was cancelled after 0 attempts"):
        await unwanted.result()

    fleet.start_worker("w1")
    assert await waiting.result(timeout=20) == 0.01
    waiting = nap.handle(waiting.id)
    assert (await waiting.status(), await waiting.cancel()) == ("completed", False)
    assert await (await block.submit(seconds=0.0)).result(timeout=20) == 0.0

    many = await nap.submit_many({"seconds": 0.001 * n} for n in range(50))
    assert await asyncio.gather(*(handle.result(timeout=20) for handle in many)) == [0.001 * n for n in range(50)]
    with pytest.raises(taskd.InvalidJob, match=r"jobs\[1\].payload: .*NUL"):
        await echoes.submit_many([{"text": "a"}, {"text": "b\0"}])

    retried = await flaky.options(retry_backoff={"initial": 0.05, "jitter": False}).submit(failures=1)
    assert await retried.result(timeout=20) == 2
    hopeless = await flaky.options(max_retries=0).submit(failures=9)
    with pytest.raises(
        JobFailed, match=f"job {hopeless.id} failed after 1 attempt: RuntimeError: attempt 1 fails"
    ) as raised:
        await hopeless.result(timeout=20)
    assert raised.value.error is not None
    assert [handle["outcome"] for handle in raised.value.attempts] == ["failed"]


def test_threads_submit_with_options_and_wait(fleet: Fleet, scheduler: Process) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    urgent = nap.options(priority=9, queue="other", max_retries=1, timeout=5.5, metadata={"who": "me"})
    job = urgent.options(schedule_at=soon, dedupe_key="k").submit_sync(seconds=0).job()
    shown = {name: job[name] for name in ("priority", "queue", "max_retries", "timeout", "metadata", "dedupe_key")}
    assert shown == {
        "priority": 9,
        "queue": "other",
        "max_retries": 1,
        "timeout": 5.5,
        "metadata": {"who": "me"},
        "dedupe_key": "k",
    }
    assert datetime.fromisoformat(job["schedule_at"]) == soon
    again = nap.options(dedupe_key="k").submit_sync(5)
    assert (again.id, again.cancel(), again.status()) == (job["id"], True, "cancelled")

    handles = [*nap.submit_many_sync([{"seconds": 0}, {"seconds": 0.01}]), nap.submit_sync(0)]
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        handles[0].wait(timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    fleet.start_worker("w1")
    assert [handle.result(timeout=20) for handle in handles] == [0, 0.01, 0]
    handle = nap.handle_sync(handles[0].id)
    assert (handle.wait(), handle.cancel(), handle.result()) == ("completed", False, 0)
    with pytest.raises(ClientError, match=r"payload: .*NUL") as refused:
        echoes.submit_sync("a\0")
    assert isinstance(refused.value, taskd.InvalidJob)
    assert refused.value.status == 422
    scheduler.kill()
    app.close()
    with pytest.raises(ClientError, match="no scheduler can be reached") as alone:
        nap.submit_sync(0)
    assert alone.value.status is None


def write_programs(page: Path, folder: Path) -> dict[str, str]:
    """Write the page's programs to files named by their first lines; return the variables with which Python finds them."""
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        (folder / name).write_text(text, "utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def output_of(program: Path, path: dict[str, str]) -> list[str]:
    """Return the output of a program. Raises AssertionError unless it exits with 0 and writes no error."""
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_programs_of_the_page_run(fleet: Fleet, scheduler: Process, tmp_path: Path) -> None:
    path = write_programs(PAGE, tmp_path)
    fleet.start_worker("w1", "--queues", "images,default", app="tasks", **path)

    def output(program: str) -> list[str]:
        return output_of(tmp_path / program, path)

    first, *others = output("web.py")
    assert re.fullmatch(r"\d+ (pending|queued|running|completed)", first)
    assert others == ["{'pixels': 20000}", "True", "['1 pages about June', '1 pages about July']"]
    assert output("script.py") == ["3 pages about May", "a report has at least one page 1"]


def test_the_programs_about_running_tasks_run(fleet: Fleet, scheduler: Process, tmp_path: Path) -> None:
    path = write_programs(PAGE, tmp_path)
    fleet.start_worker("w1", "--queues", "imports", app="imports", TASKD_SERVER=scheduler.url, **path)
    assert output_of(tmp_path / "begin.py", path) == ["250 row 249 of 250"]
    lines = output_of(tmp_path / "try_imports.py", path)
    assert lines == ["50 (0.996, 'row 249 of 250') 200", "tidy {'queue': 'imports', 'priority': 1}", "snoozed"]


def test_the_programs_about_transactions_run(fleet: Fleet, scheduler: Process, tmp_path: Path) -> None:
    path = write_programs(TRANSACTIONS, tmp_path) | {"POSTGRES_DSN": fleet.dsn}
    fleet.start_worker("w1", "--queues", "shop", app="shop", **path)
    assert output_of(tmp_path / "buy.py", path) == [
        "30",
        "(1,)",
        "priority: must be a whole number from 0 to 100, not 101",
    ]
    assert output_of(tmp_path / "views.py", path) == ["5"]
    with psycopg.connect(fleet.dsn, autocommit=True) as connection:
        for block in re.findall(r"```sql\n(SELECT id, .*?)```", TRANSACTIONS.read_text("utf-8"), re.DOTALL):
            connection.execute(block)
        connection.execute("INSERT INTO orders (buyer, total) VALUES ('alan', 7)")
        receipts = "SELECT count(*) FROM taskd.finished_jobs WHERE task = 'receipt' AND status = 'completed'"
        # Two by charge, one by the charge in SQL (of order 1 again), two by submit_many, one by the trigger.
        wait_until(lambda: connection.execute(receipts).fetchone() == (6,), 60)
        assert connection.execute("SELECT balance FROM accounts").fetchone() == (100 - 30 - 5 - 3,)
        connection.execute("CREATE ROLE shop")
        for grants in re.findall(r"```sql\n(GRANT .*?)```", TRANSACTIONS.read_text("utf-8"), re.DOTALL):
            connection.execute(grants.replace("tasks;", "shop;"))
        connection.execute("DROP OWNED BY shop; DROP ROLE shop")
