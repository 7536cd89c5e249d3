"""taskd and its peers, with one interface: submit, start workers, end workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.machine import process_tree
from bench.peers import BACKLOG, PEERS, Peer
from bench.rig import Rig, RunningProcess

HERE = Path(__file__).parent
SCRIPTS = HERE / "peers"
#: Where the Makefile installs the peers, each in a folder with its name.
HOMES = HERE.parent / ".venv-bench"
#: Slots of taskd's worker. With 500, as many as one statement settles, it claimed the next batch only after the last one.
SLOTS = 1000


class Contestant(Protocol):
    """System that takes jobs and runs them."""

    name: str
    jobs: int
    backlog: int
    note: str
    unfinished: str
    client: Client

    def begin(self) -> None:
        """Start the workers. They may need some time until they run."""
        ...

    def end(self) -> None:
        """End the workers."""
        ...

    @property
    def pids(self) -> list[int]:
        """Return every process of the system itself, without servers."""
        ...


class Tallies:
    """The counts and times that the tasks themselves leave in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    @property
    def done(self) -> int:
        """Return how many jobs have begun to run: for a job that does nothing, how many have run."""
        read = (file.read_bytes() for file in self.folder.glob("*.tally"))
        return sum(struct.unpack("<q", data)[0] for data in read if len(data) == 8)

    def started(self) -> list[tuple[int, int]]:
        """Return when the measured jobs were submitted and began, in nanoseconds of the monotonic clock."""
        lines = [line for file in self.folder.glob("*.starts") for line in file.read_text().splitlines(keepends=True)]
        times = [line.split() for line in lines if line.endswith("\n")]
        return [(int(sent), int(began)) for sent, began in times]

    def clear_starts(self) -> None:
        """Delete the recorded times."""
        for file in self.folder.glob("*.starts"):
            file.unlink()


class Client(NamedTuple):
    """Script that submits, called as described in bench/peers/common.py."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path

    def submit(self, mode: str, jobs: int) -> tuple[float, float]:
        """Submit one job, then `jobs` more.

        Returns when the latter began (seconds of time.monotonic), and how long they took. `mode`: "one" after another,
        or in "bulk" of a thousand.
        """
        began, seconds = run((*self.command, mode, str(jobs)), self.environment, self.folder).split()[-2:]
        return float(began), float(seconds)

    @contextlib.contextmanager
    def interactive(self) -> Iterator[Callable[[], None]]:
        """Start a client that has submitted one job; each call of the yielded function makes it submit one more."""
        popen = subprocess.Popen(
            (*self.command, "interactive", "0"),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        pipe = popen.stdin
        assert pipe is not None

        def submit() -> None:
            pipe.write("\n")
            pipe.flush()

        try:
            yield submit
        finally:
            popen.kill()
            popen.wait()
            pipe.close()


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """Return the output of a command. Raises RuntimeError with its errors."""
    completed = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if completed.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{completed.stderr[-2000:]}")
    return completed.stdout


class PeerContestant:
    """Peer on the servers of the rig."""

    def __init__(self, peer: Peer, rig: Rig, folder: Path) -> None:
        self.name, self.note = peer.name, f"{version(peer)}; {peer.note}"
        self.jobs, self.backlog, self.unfinished = peer.jobs, peer.backlog or peer.jobs, peer.unfinished
        self._peer = peer
        self._folder = folder
        self._home = SCRIPTS / "node" if peer.program == "node" else SCRIPTS
        self._workers: list[subprocess.Popen[bytes]] = []
        home = HOMES / peer.name / "bin"
        self._environment = os.environ | {
            "BENCH_DSN": rig.dsn,
            "BENCH_REDIS": rig.servers.redis.url,
            "BENCH_FOLDER": str(folder),
            "PATH": f"{home}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(SCRIPTS),
        }
        self._program = str(shutil.which(peer.program, path=self._environment["PATH"]))
        interpreter = self._program if peer.program == "node" else str(home / "python")
        run((interpreter, peer.script, "prepare"), self._environment, self._home)
        self.client = Client((interpreter, peer.script), self._environment, self._home)

    def begin(self) -> None:
        for number, arguments in enumerate(self._peer.workers):
            with (self._folder / f"worker-{number}.log").open("ab") as log:
                self._workers.append(
                    subprocess.Popen(
                        [self._program, *arguments],
                        cwd=self._home,
                        env=self._environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    def end(self) -> None:
        for pid in self.pids:  # after SIGTERM some of them would wait for jobs for a while
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for worker in self._workers:
            worker.wait()
        self._workers.clear()

    @property
    def pids(self) -> list[int]:
        return [pid for worker in self._workers for pid in process_tree(worker.pid)]


class TaskdContestant:
    """taskd: a scheduler that runs all the time, and a worker with SLOTS slots."""

    name = "taskd"
    jobs = 60_000
    backlog = BACKLOG
    unfinished = "SELECT count(*) FROM taskd.jobs"
    note = f"1 scheduler, 1 worker with {SLOTS:,} slots in 1 executor process; by HTTP; every job is kept in history"

    def __init__(self, rig: Rig, scheduler: RunningProcess) -> None:
        self._rig = rig
        self._scheduler = scheduler
        self._worker: RunningProcess | None = None
        environment = os.environ | {"BENCH_FOLDER": str(rig.tallies), "BENCH_URL": scheduler.url}
        self.client = Client((sys.executable, "-m", "bench.client"), environment, HERE.parent)

    def begin(self) -> None:
        self._worker = self._rig.worker(SLOTS)

    def end(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    @property
    def pids(self) -> list[int]:
        roles = [self._scheduler, *([self._worker] if self._worker else [])]
        return [pid for role in roles for pid in process_tree(role.popen.pid)]


def version(peer: Peer) -> str:
    """Return the installed version of a peer."""
    package = peer.name.lower()
    if peer.program == "node":
        text = (SCRIPTS / "node" / "node_modules" / package / "package.json").read_text()
        return str(json.loads(text)["version"])
    question = f"import importlib.metadata as m; print(m.version({package!r}))"
    return run((str(HOMES / peer.name / "bin" / "python"), "-c", question), os.environ, HERE).strip()


def contestants(
    rig: Rig, scheduler: RunningProcess, report_progress: Callable[[str], None], *, peers: bool
) -> list[tuple[Contestant, Tallies]]:
    """Return taskd and the installed peers, each with the folder in which its jobs count."""
    entries: list[tuple[Contestant, Tallies]] = [(TaskdContestant(rig, scheduler), Tallies(rig.tallies))]
    for peer in PEERS if peers else ():
        if peer.program == "node":
            installed = shutil.which("node") is not None and (SCRIPTS / "node" / "node_modules").exists()
        else:
            installed = (HOMES / peer.name / "bin" / peer.program).exists()
        if installed:
            tallies = Tallies(rig.folder / "peers" / peer.name)
            entries.append((PeerContestant(peer, rig, tallies.folder), tallies))
        else:
            report_progress(f"{peer.name} is left out: it is not installed here")
    return entries
