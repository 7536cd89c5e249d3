"""taskd and its peers, behind one face and measured in one way: submit, work, count."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.machine import busy, family, proportional
from bench.peers import BACKLOG, PEERS, Peer
from bench.rig import Rig, Role, until

HERE = Path(__file__).parent
SCRIPTS = HERE / "peers"
#: Where the Makefile installs the peers, each in a folder with its name.
HOMES = HERE.parent / ".venv-bench"
#: Of our worker, whose next batch is claimed while one runs: with 500, which is what one statement settles, it waited for that.
SLOTS = 1000
#: Of a drain, the part that is not measured: workers need a while until they run.
WARM = 0.1


class Contestant(Protocol):
    """Something that takes jobs and runs them."""

    name: str
    jobs: int
    backlog: int
    note: str

    def submit(self, how: str, jobs: int) -> tuple[float, float]:
        """Submit `jobs` and one more before: when it began (seconds of time.monotonic), and how long it took.

        `how`: "one" after another, in "bulk" of a thousand, or "paced", one every 20 ms.
        """
        ...

    def begin(self) -> None:
        """Start the workers; they may need a while until they run."""
        ...

    def end(self) -> None:
        """End the workers."""
        ...

    @property
    def pids(self) -> list[int]:
        """Every process of its own; the servers are none."""
        ...


class Tallies:
    """What the tasks themselves leave in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    @property
    def done(self) -> int:
        """How many jobs have begun to run: for a job that does nothing, how many have run."""
        read = (file.read_bytes() for file in self.folder.glob("*.tally"))
        return sum(struct.unpack("<q", data)[0] for data in read if len(data) == 8)

    def starts(self) -> list[float]:
        """Sorted milliseconds from submit to start of the paced jobs, which are forgotten by that."""
        files = list(self.folder.glob("*.starts"))
        found = sorted(int(line) / 1e6 for file in files for line in file.read_text().split())
        for file in files:
            file.unlink()
        return found


def submitted(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[float, float]:
    """Run a client that prints when it began and how long it took."""
    began, seconds = run(command, environment, folder).split()[-2:]
    return float(began), float(seconds)


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """What a command prints. Raises RuntimeError with what it complains of."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


class Other:
    """One of the peers, on the servers of the rig."""

    def __init__(self, peer: Peer, rig: Rig, folder: Path) -> None:
        self.name, self.note = peer.name, f"{version(peer)}; {peer.note}"
        self.jobs, self.backlog = peer.jobs, peer.backlog or peer.jobs
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
        self._interpreter = self._program if peer.program == "node" else str(home / "python")
        run((self._interpreter, peer.script, "prepare"), self._environment, self._home)

    def submit(self, how: str, jobs: int) -> tuple[float, float]:
        return submitted((self._interpreter, self._peer.script, how, str(jobs)), self._environment, self._home)

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
        for pid in self.pids:  # SIGTERM would have some of them wait for jobs for a while
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for worker in self._workers:
            worker.wait()
        self._workers.clear()

    @property
    def pids(self) -> list[int]:
        return [pid for worker in self._workers for pid in family(worker.pid)]


class Own:
    """taskd: a scheduler that runs all the time, and a worker with SLOTS slots."""

    name = "taskd"
    jobs = 60_000
    backlog = BACKLOG
    note = f"1 scheduler, 1 worker with {SLOTS:,} slots in 1 executor process; by HTTP; every job is kept in history"

    def __init__(self, rig: Rig, scheduler: Role) -> None:
        self._rig = rig
        self._scheduler = scheduler
        self._worker: Role | None = None

    def submit(self, how: str, jobs: int) -> tuple[float, float]:
        environment = os.environ | {"BENCH_FOLDER": str(self._rig.tallies), "BENCH_URL": self._scheduler.url}
        return submitted((sys.executable, "-m", "bench.client", how, str(jobs)), environment, HERE.parent)

    def begin(self) -> None:
        self._worker = self._rig.worker(SLOTS)

    def end(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    @property
    def pids(self) -> list[int]:
        roles = [self._scheduler, *([self._worker] if self._worker else [])]
        return [pid for role in roles for pid in family(role.popen.pid)]


def version(peer: Peer) -> str:
    """The version that is installed."""
    package = peer.name.lower()
    if peer.program == "node":
        text = (SCRIPTS / "node" / "node_modules" / package / "package.json").read_text()
        return str(json.loads(text)["version"])
    question = f"import importlib.metadata as m; print(m.version({package!r}))"
    return run((str(HOMES / peer.name / "bin" / "python"), "-c", question), os.environ, HERE).strip()


def contestants(
    rig: Rig, scheduler: Role, say: Callable[[str], None], *, peers: bool
) -> list[tuple[Contestant, Tallies]]:
    """taskd and those peers that are installed, each with the folder of its own where its jobs leave their tally."""
    found: list[tuple[Contestant, Tallies]] = [(Own(rig, scheduler), Tallies(rig.tallies))]
    for peer in PEERS if peers else ():
        if peer.program == "node":
            there = shutil.which("node") is not None and (SCRIPTS / "node" / "node_modules").exists()
        else:
            there = (HOMES / peer.name / "bin" / peer.program).exists()
        if there:
            tallies = Tallies(rig.folder / "peers" / peer.name)
            found.append((Other(peer, rig, tallies.folder), tallies))
        else:
            say(f"nothing of {peer.name}: it is not installed here")
    return found


def measure(contestant: Contestant, tallies: Tallies) -> dict[str, float]:
    """One pass of one contestant: everything that `FIGURES` names."""
    before, jobs, backlog = tallies.done, contestant.jobs, contestant.backlog
    few = max(200, jobs // 50)
    _, seconds_one = contestant.submit("one", few)
    _, seconds_bulk = contestant.submit("bulk", backlog)
    expected = before + few + backlog + 2
    contestant.begin()
    drained = _drain(tallies, before, expected)
    used, (began, _) = busy(), contestant.submit("bulk", jobs)
    expected += jobs + 1
    until(lambda: tallies.done >= expected)
    whole = time.monotonic() - began
    used = busy() - used
    megabytes = proportional(contestant.pids)
    time.sleep(1.0)
    tallies.starts()
    contestant.submit("paced", 100)
    expected += 101
    until(lambda: tallies.done >= expected)
    starts = tallies.starts()
    contestant.end()
    return {
        "one by one, jobs/s": few / seconds_one,
        "in bulk, jobs/s": backlog / seconds_bulk,
        "drain, jobs/s": drained,
        "end to end, jobs/s": jobs / whole,
        "CPU, s per 100,000 jobs": used / jobs * 100_000,
        "memory, MB": megabytes,
        "idle, submit to start p50, ms": statistics.median(starts),
        "idle, submit to start p99, ms": starts[len(starts) * 99 // 100],
    }


def _drain(tallies: Tallies, before: int, expected: int) -> float:
    """Jobs/s of workers that were just started, without the time that they need until they run."""
    first = before + int((expected - before) * WARM)
    until(lambda: tallies.done >= first)
    began, counted = time.monotonic(), tallies.done
    until(lambda: tallies.done >= expected)
    return (expected - counted) / (time.monotonic() - began)


class Result(NamedTuple):
    """What each contestant reached in each pass, by contestant and figure; and how each was set up."""

    results: dict[str, dict[str, list[float]]]
    notes: dict[str, str]


def compete(rig: Rig, scheduler: Role, passes: int, say: Callable[[str], None], *, peers: bool) -> Result:
    """Several passes, in each of them every contestant once."""
    field = contestants(rig, scheduler, say, peers=peers)
    found: dict[str, dict[str, list[float]]] = {contestant.name: {} for contestant, _ in field}
    for number in range(passes):
        for contestant, tallies in [each for each in field if each[0].name in found]:
            say(f"pass {number + 1} of {passes}: {contestant.name}")
            try:
                figures = measure(contestant, tallies)
            except (RuntimeError, TimeoutError) as error:
                contestant.end()
                if contestant.name == Own.name:
                    raise
                say(f"{contestant.name} did not get through, and is left out: {error}")
                del found[contestant.name]  # medians and ratios are of passes that all were in
                continue
            for name, figure in figures.items():
                found[contestant.name].setdefault(name, []).append(figure)
    return Result(found, {contestant.name: contestant.note for contestant, _ in field if contestant.name in found})
