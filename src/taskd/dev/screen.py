"""What `taskd dev` says on the terminal: short lines, and one summary once everything answers."""

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
from taskd.dev.members import answer
from taskd.domain import exact
from taskd.runtime.console import SafeConsole
from taskd.runtime.terminal import clean_line

DEFAULT_PORT = 8080
#: What the example of a submit may take; an app that loads for longer has none.
EXAMPLE_SECONDS = 10.0


def console() -> Console:
    """Standard output; without colours and line breaks of its own when that is no terminal."""
    return SafeConsole(soft_wrap=True)


def say(out: Console, name: str, line: str) -> None:
    """One line about one process."""
    out.print(Text.assemble((f"{clean_line(name):>12}", "bold"), "  ", clean_line(line)))


def summary(out: Console, cluster: DevCluster) -> None:
    """Where everything is, and what to try."""
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
    if "app" not in cluster.plan.worker:
        out.print(f'  {program} submit --task echo \'{{"hello": "world"}}\' --wait 10')
    out.print(f"  {program} status")
    for line in _of_ones_own(cluster, program):
        out.print(line)
    out.print("\nCtrl-C ends all of it.\n")


def _of_ones_own(cluster: DevCluster, program: str) -> Iterator[str]:
    """A submit to one of the user's tasks, or which tasks there are, where no payload can be made up."""
    if "app" not in cluster.plan.worker:
        return
    workers = (answer(cluster.plan.port, "/workers") or {}).get("workers") or [{}]
    tasks, queues = (workers[0].get(what) or [] for what in ("tasks", "queues"))
    if not tasks or not queues:
        return
    found = _example(cluster.plan.worker["app"])
    if found is not None:
        payload = shlex.quote(exact.dumps(found["payload"]))
        yield f"  {program} submit --task {found['task']} --queue {queues[0]} {payload}"
    yield f"\nYour tasks: {', '.join(tasks)} (queues: {', '.join(queues)})"


def _example(app: str) -> dict[str, Any] | None:
    """A task with a payload that it takes: the app is loaded in a process of its own, as in the workers."""
    command = [sys.executable, "-m", "taskd.dev.example", app]
    try:
        done = subprocess.run(  # noqa: S603  our own module, with the app that the workers load
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=EXAMPLE_SECONDS, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError):
        return None
    return found or None


def _program() -> str:
    """How a shell in this folder calls taskd."""
    script = Path(sys.executable).with_name("taskd")
    if not script.exists():
        return f"{sys.executable} -m taskd"
    found = shutil.which("taskd")
    return "taskd" if found is not None and Path(found) == script else _short(script)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
