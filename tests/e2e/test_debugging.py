"""Test what users see of failures, on a real cluster."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import web
from tests.e2e.debug_tasks import app, chatty, misread, poison, quiet, waits
from tests.e2e.fleet import Fleet, Process, scheduler_of
from tests.servers import wait_until

APP = "tests.e2e.debug_tasks"
QUICKLY = {"retry_backoff": {"initial": 0.05, "factor": 1.0, "jitter": False}}


@pytest.fixture
def scheduler(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    with scheduler_of(app, fleet, monkeypatch) as process:
        yield process


def logs(scheduler: Process, job_id: int, query: str = "") -> dict[str, Any]:
    page: dict[str, Any] = web.get(f"{scheduler.url}/jobs/{job_id}/logs{query}").raise_for_status().json()
    return page


def texts(page: dict[str, Any]) -> list[str]:
    return [line["text"] for line in page["lines"]]


def test_a_failed_job_shows_its_history(fleet: Fleet, scheduler: Process) -> None:
    fleet.start_worker("w1", app=APP)
    handle = misread.options(max_retries=1, **QUICKLY).submit_sync("x1")  # type: ignore[arg-type]
    assert handle.wait(timeout=60) == "failed"
    job = handle.job()
    assert job["error"] == "RuntimeError: cannot read 'x1'"
    for attempt in job["attempts"]:
        assert attempt["error"] == job["error"]
        assert "in parse" in attempt["traceback"]
        assert "direct cause" in attempt["traceback"]
        assert "src/taskd" not in attempt["traceback"]
    stages = job["timeline"]
    assert [stage["attempt"] for stage in stages if stage["state"] == "running"] == [1, 2]
    assert "until its retry" in [stage["why"] for stage in stages]
    assert [a["until"] for a in stages[:-1]] == [b["since"] for b in stages[1:]]

    page = logs(scheduler, handle.id)
    of_one_attempt = ["reading x1", "orders: as JSON", "odd text=x1"]
    assert texts(page) == of_one_attempt * 2
    assert [line["attempt"] for line in page["lines"]] == [1] * 3 + [2] * 3
    assert [line.get("level", line["source"]) for line in page["lines"][:3]] == ["stdout", "info", "warning"]
    assert texts(logs(scheduler, handle.id, "?attempt=2")) == of_one_attempt
    assert texts(logs(scheduler, handle.id, "?cursor=1.3")) == of_one_attempt
    assert web.get(f"{scheduler.url}/jobs/{handle.id}/logs?cursor=x").status_code == 422
    assert web.get(f"{scheduler.url}/jobs/9999999/logs").status_code == 404

    check_commands(fleet, scheduler, handle.id, of_one_attempt)

    deliberate = quiet.submit_sync()
    assert deliberate.wait(timeout=60) == "failed"
    assert deliberate.job()["error"] == "no good"
    assert fleet.taskd(scheduler, "logs", str(deliberate.id)).stderr == "nothing was logged or printed\n"


def check_commands(fleet: Fleet, scheduler: Process, job_id: int, of_one_attempt: list[str]) -> None:
    """Check `taskd status`, `taskd logs` and the export for a job with two failed attempts."""
    shown = fleet.taskd(scheduler, "status", str(job_id)).stdout
    assert "until its retry" in shown
    assert "traceback of attempt 2" in shown
    assert "traceback of attempt 1" not in shown
    assert "traceback of attempt 1" in fleet.taskd(scheduler, "status", str(job_id), "--full").stdout
    printed = fleet.taskd(scheduler, "logs", str(job_id)).stdout.splitlines()
    assert printed[0] == "attempt 1"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  warning  ?odd text=x1", printed[3])
    document = json.loads(fleet.taskd(scheduler, "logs", str(job_id), "--attempt", "2", "--json").stdout)
    assert texts(document) == of_one_attempt
    for follow in ([], ["--follow"]):
        missing = fleet.taskd(scheduler, "logs", str(job_id), "--attempt", "9", *follow)
        assert missing.returncode == 1
        assert missing.stderr == f"error: job {job_id} has 2 attempts, and no attempt 9\n"
    exported = fleet.taskd(scheduler, "history", "export", "--logs").stdout
    assert texts({"lines": json.loads(exported)["logs"]}) == of_one_attempt * 2


def test_output_is_seen_while_it_is_made_and_followed_to_the_end(fleet: Fleet, scheduler: Process) -> None:
    fleet.start_worker("w1", app=APP)
    handle = chatty.submit_sync(30, 0.1)
    wait_until(lambda: "line 3" in texts(logs(scheduler, handle.id)) and handle.status() == "running")
    followed = fleet.taskd(scheduler, "logs", str(handle.id), "--follow")
    assert [line.split("  ", 2)[-1] for line in followed.stdout.splitlines()] == [f"line {n}" for n in range(30)]
    assert handle.status() == "completed"


def test_much_output_keeps_its_first_and_last_part(fleet: Fleet, scheduler: Process) -> None:
    fleet.start_worker("w1", app=APP, TASKD_WORKER__MAX_LOG_BYTES="20000")
    handle = chatty.submit_sync(20_000, 0.0)
    handle.result(timeout=100)
    page, lines = logs(scheduler, handle.id), []
    while True:
        lines += page["lines"]
        if not page["more"]:
            break
        page = logs(scheduler, handle.id, f"?cursor={page['cursor']}")
    kept = [line for line in lines if line["source"] == "stdout"]
    assert kept[0]["text"] == "line 0"
    assert kept[-1]["text"] == "line 19999"
    assert all(line["text"] == f"line {line['line'] - 1}" for line in kept)
    left_out = [line for line in lines if "left_out" in line]
    assert sum(line["left_out"] for line in left_out) + len(kept) == 20_000
    assert "lines left out" in left_out[0]["text"]
    with psycopg.connect(fleet.dsn) as connection:
        ((size,),) = connection.execute("SELECT sum(length(body::text)) FROM taskd.logs").fetchall()
    assert size < 2 * 20_000


def test_a_poisonous_job_stops_at_its_limit_and_says_why(fleet: Fleet, scheduler: Process) -> None:
    fleet.start_worker("w1", app=APP)
    handle = poison.options(max_retries=50, **QUICKLY).submit_sync()  # type: ignore[arg-type]
    assert handle.wait(timeout=100) == "failed"
    job = handle.job()
    assert job["error"] == (
        "crashed 3 times, the limit is 3. The last time the executor process was killed by SIGSEGV "
        "(a fault in native code? The worker's log has the stack) while the task ran"
    )
    errors = [attempt["error"] for attempt in job["attempts"]]
    assert errors[0].endswith("while the task ran (crash 1 of at most 3)")
    assert errors[1].endswith("while the task ran (crash 2 of at most 3)")
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["crashed"] * 3
    assert texts(logs(scheduler, handle.id)) == ["about to fall"] * 3
    shown = " ".join(fleet.taskd(scheduler, "status", str(handle.id)).stdout.split())
    assert "crashed 3 times, the limit is 3." in shown


def test_the_last_output_of_a_cancelled_attempt_is_kept(fleet: Fleet, scheduler: Process) -> None:
    fleet.start_worker("w1", app=APP)
    handle = waits.submit_sync()
    wait_until(lambda: texts(logs(scheduler, handle.id)) == ["waiting"])
    assert handle.cancel()
    wait_until(lambda: texts(logs(scheduler, handle.id)) == ["waiting", "cleaning up"])


def test_a_worker_takes_up_changed_code_and_a_mistake_leaves_the_old(fleet: Fleet, scheduler: Process) -> None:
    code = (
        "import taskd, time\napp = taskd.App()\n@app.task\ndef version(nap=0.0):\n    time.sleep(nap)\n    return {}\n"
    )
    module = Path(fleet.folder) / "changing.py"
    module.write_text("import taskd\nthis is no Python\n")
    worker = fleet.start_worker("w1", "--reload", "--processes", "2", app="changing", PYTHONPATH=_with(fleet.folder))
    wait_until(lambda: "waiting for a change of its code" in worker.output)
    module.write_text(code.format(1))

    def runs(task: str, *options: str) -> dict[str, Any]:
        command = ("submit", "{}", "--task", task, "--max-retries", "0", "--wait", "60", "--json")
        document: dict[str, Any] = json.loads(fleet.taskd(scheduler, *command, *options).stdout)
        return document

    wait_until(lambda: worker.output.count("reloaded") >= 2, 60)
    assert runs("version")["result"] == 1
    slow = json.loads(fleet.taskd(scheduler, "submit", '{"nap": 8}', "--task", "version", "--json").stdout)["id"]
    wait_until(lambda: fleet.statuses([slow]) == {"running": 1})
    module.write_text("def broken(:\n")
    wait_until(lambda: "the old code goes on" in worker.output, 60)
    assert runs("version")["result"] == 1
    refusals = [line for line in worker.output.splitlines() if "the old code goes on" in line]
    assert "SyntaxError" in refusals[0]
    assert "changing.py" in refusals[0]
    module.write_text(code.format(2))
    reloads = worker.output.count("reloaded")
    wait_until(lambda: worker.output.count("reloaded") > reloads, 60)
    assert runs("version")["result"] == 2
    wait_until(lambda: fleet.statuses([slow]) == {"completed": 1})
    with psycopg.connect(fleet.dsn) as connection:
        rows = connection.execute(
            "SELECT attempt, result::text FROM taskd.finished_jobs WHERE id = %s", (slow,)
        ).fetchall()
    assert rows == [(1, "1")], "what ran when the code changed ends with the old code"
    assert worker.terminate() == 0


def _with(folder: Path) -> str:
    here = str(Path(__file__).parents[2])
    return f"{here}/src:{here}:{folder}"


class Here:
    """`taskd run` in a folder with a user's module `mine`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mine.py").write_text(
            "import taskd\n"
            "app = taskd.App()\n"
            "@app.on_start\n"
            "def begin(): print('opened')\n"
            "@app.task\n"
            "async def double(ctx: taskd.Context, n: int) -> dict:\n"
            "    await ctx.progress(0.5, 'half way')\n"
            "    await ctx.submit(other, 'x')\n"
            "    print('doubling', n)\n"
            "    return {'n': 2 * n, 'from': ctx.checkpoint_value, 'attempt': ctx.attempt}\n"
            "@app.task\n"
            "def other(name: str) -> None:\n"
            "    secret = 'in ' + name\n"
            "    breakpoint()\n"
            "    print('still', secret)\n"
            "    raise ValueError(name)\n"
        )

    def run(self, *arguments: str, keys: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "taskd", "run", *arguments],
            input=keys,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=self.folder,
        )


def test_a_task_runs_here_in_the_foreground_and_under_a_debugger(tmp_path: Path) -> None:
    here = Here(tmp_path)
    ran = here.run("double", '{"n": 4}', "--app", "mine", "--checkpoint", '{"a": 1}', "--attempt", "3")
    assert ran.returncode == 0
    assert ran.stdout == 'opened\ndoubling 4\n{"n": 8, "from": {"a": 1}, "attempt": 3}\n'
    assert "progress: 50% half way" in ran.stderr
    assert 'not submitted by `taskd run`: other {"name": "x"}' in ran.stderr
    assert json.loads(here.run("double", '{"n": 4}', "--app", "mine", "--json").stdout)["n"] == 8

    stopped = here.run("other", '{"name": "cellar"}', "--app", "mine", "--pdb", keys="p secret\nc\np name * 2\nq\n")
    assert stopped.returncode == 1
    assert "'in cellar'" in stopped.stdout
    assert "still in cellar" in stopped.stdout
    assert "'cellarcellar'" in stopped.stdout
    assert 'mine.py", line 16, in other' in stopped.stderr
    assert "src/taskd" not in stopped.stderr
    assert stopped.stderr.strip().endswith("ValueError: cellar")

    misfit = here.run("double", '{"n": "four"}', "--app", "mine")
    assert misfit.returncode == 1
    assert misfit.stderr.startswith("error: the payload does not fit the task 'double'")
    assert misfit.stderr.splitlines()[1:] == ["failed for good: a worker would not try it again"]
    unknown = here.run("dubble", "{}", "--app", "mine")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no task 'dubble' in the app mine; it has: double, other" in unknown.stderr
    assert here.run("echo", '{"a": 1}').stdout == '{"a": 1}\n'


STARTLESS = """
import asyncio, taskd
app = taskd.App()
@app.on_start
async def begin(): print('opened', flush=True)
@app.on_start
async def fail(): BODY
@app.on_stop
def end(): print('closed')
@app.task
def double(n: int) -> int: return 2 * n
"""


def test_an_app_that_does_not_start_is_reported_in_one_line_and_stopped(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(STARTLESS.replace("BODY", "raise ConnectionRefusedError('no pool')"))
    ran = Here(tmp_path).run("double", '{"n": 4}', "--app", "shop")
    assert (ran.returncode, ran.stdout) == (1, "opened\nclosed\n")
    assert ran.stderr == (
        f"error: app 'shop' does not start: ConnectionRefusedError: no pool ({tmp_path / 'shop.py'}:7)\n"
    )


def test_an_app_whose_start_takes_long_is_stopped_by_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(STARTLESS.replace("BODY", "await asyncio.Event().wait()"))
    command = [sys.executable, "-m", "taskd", "run", "double", '{"n": 4}', "--app", "shop"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "opened\n"
        running.send_signal(signal.SIGINT)
        try:
            assert running.communicate(timeout=100) == ("closed\n", "")
        finally:
            running.kill()  # a process that did not stop must not block the test
    assert running.returncode == 130


def test_a_setting_for_other_tasks_does_no_harm(tmp_path: Path) -> None:
    here = Here(tmp_path)
    (tmp_path / "taskd.toml").write_text("[tasks]\nhttp_allow = 'example.org'\n")
    assert here.run("double", '{"n": 4}', "--app", "mine").returncode == 0
    refused = here.run("http", '{"url": "https://example.org"}')
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: section [tasks], key 'http_allow': 'example.org' must be a plain URL")
    assert refused.stderr.count("\n") == 1
