"""The terminal output of `taskd dev`: short lines, and one summary once everything answers."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskd.dev.cluster import DevCluster
from taskd.dev.members import fetch
from taskd.domain import exact
from taskd.runtime.console import SafeConsole
from taskd.runtime.terminal import clean_line

DEFAULT_PORT = 8080
#: Seconds for making the example of a submit; an app that takes longer to load gets none.
EXAMPLE_SECONDS = 10.0


def console() -> Console:
    """Return a console on standard output; without colours and line breaks when that is not a terminal."""
    return SafeConsole(soft_wrap=True)


def say(out: Console, name: str, line: str) -> None:
    """Print one line about one process."""
    out.print(Text.assemble((f"{clean_line(name):>12}", "bold"), "  ", clean_line(line)))


def summary(out: Console, cluster: DevCluster) -> None:
    """Print the addresses of all parts, and commands to try."""
    servers = cluster.servers
    table = Table.grid(padding=(0, 2))
    for number, url in enumerate(cluster.urls, 1):
        table.add_row("API" if number == 1 else "", url, f"scheduler-{number}")
    workers = cluster.worker_names
    table.add_row("Workers", ", ".join(workers) if workers else "none", "")
    table.add_row("PostgreSQL", servers.postgres.dsn, "")
    table.add_row("Redis", servers.redis.url, "")
    table.add_row("etcd", servers.etcd.endpoint, "")
    table.add_row("Logs", _short(cluster.folder.logs), "")
    out.print(Text.assemble("\n", ("taskd is up", "bold green"), f" after {cluster.start_seconds:.1f} s"))
    out.print(table)
    out.print("\nTry, in another terminal:")
    if cluster.urls != [f"http://localhost:{DEFAULT_PORT}"]:
        out.print(f"  export TASKD_SERVER={','.join(cluster.urls)}")
    program = _program()
    if "app" not in cluster.options.worker:
        out.print(f'  {program} submit --task echo \'{{"hello": "world"}}\' --wait 10')
    out.print(f"  {program} status")
    for line in _user_tasks(cluster, program):
        out.print(line)
    out.print("\nCtrl-C ends all of it.\n")


def _user_tasks(cluster: DevCluster, program: str) -> Iterator[str]:
    """Yield a submit to one of the user's tasks, if a payload can be made up, and the names of all tasks."""
    if "app" not in cluster.options.worker:
        return
    workers = (fetch(cluster.options.port, "/workers") or {}).get("workers") or [{}]
    tasks, queues = (workers[0].get(what) or [] for what in ("tasks", "queues"))
    if not tasks or not queues:
        return
    example = _example(cluster.options.worker["app"])
    if example is not None:
        payload = shlex.quote(exact.dumps(example["payload"]))
        yield f"  {program} submit --task {example['task']} --queue {queues[0]} {payload}"
    yield f"\nYour tasks: {', '.join(tasks)} (queues: {', '.join(queues)})"


def _example(app: str) -> dict[str, Any] | None:
    """Return a task with a valid payload; None without one. The app is loaded in a process of its own."""
    command = [sys.executable, "-m", "taskd.dev.example", app]
    try:
        done = subprocess.run(  # noqa: S603  a module of taskd, with the app that the workers load
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=EXAMPLE_SECONDS, check=False
        )
        example: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError):
        return None
    return example or None


def _program() -> str:
    """Return the command by which a shell in this folder calls taskd."""
    script = Path(sys.executable).with_name("taskd")
    if not script.exists():
        return f"{sys.executable} -m taskd"
    on_path = shutil.which("taskd")
    return "taskd" if on_path is not None and Path(on_path) == script else _short(script)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
