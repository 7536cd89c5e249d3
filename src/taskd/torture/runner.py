"""One run of `taskd torture`: load and faults on a target, healing, quiet, the history, the verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec
import psycopg
import redis

from taskd.dev import process_spec
from taskd.dev.stop_signals import StopAsked
from taskd.dev.temporary import temporary_data
from taskd.domain.errors import TaskdError
from taskd.settings import Settings
from taskd.torture.fault_injector import FaultInjector
from taskd.torture.fault_plan import plan
from taskd.torture.faultlog import FaultLog
from taskd.torture.history import History, Meta, RedisLeft, record
from taskd.torture.observer import Observation, Observer
from taskd.torture.quiet import is_quiet, redis_left
from taskd.torture.schedule_probe import ScheduleProbe
from taskd.torture.target import Target, own_cluster, user_cluster
from taskd.torture.tasks import now as trace_clock
from taskd.torture.traffic import CONNECTIONS, LAST, REQUEST, Traffic
from taskd.torture.verdict import Verdict, judge
from taskd.torture.view import Scene, View
from taskd.torture.workload import Workload

PREFIX = "taskd-torture-"
#: Seconds between two steps of the faults.
STEP = 0.1
#: Seconds that the cluster gets: to accept the first jobs, to be complete again, to finish all jobs.
FIRST_JOBS, WHOLE, QUIET = 60.0, 60.0, 60.0
#: Jobs that must be accepted before the first fault.
WARM = 5
#: The standard workload, and a few per cent of jobs that are cancelled, or that store checkpoints and go on from them.
MIX = Workload(cancelled=3.0, climbing=4.0)

_HISTORY = ("meta.json", "clients.ndjson", "faults.ndjson", "trace")
_ROWS = ("events.ndjson", "terms.ndjson", "sessions.ndjson", "outputs.ndjson", "jobs.ndjson")
_DUMPS = (*_ROWS, "schedules.ndjson", "fires.ndjson")
#: The names that a run writes into its folder, and removes there if an earlier run left them.
PARTS = (*_HISTORY, *_DUMPS, "said.txt", "logs")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run. `global_options` are passed on to the processes.

    `name_prefix` begins the names of queues and processes in a cluster of the user's; None means a private cluster.
    """

    seconds: float
    rate: float
    seed: int
    history: Path
    name_prefix: str | None = None
    global_options: tuple[str, ...] = ()


def run(options: RunOptions, settings: Settings, view: View) -> Verdict:
    """Do the whole run, and leave the history in `options.history`.

    Raises TaskdError, and StopAsked if the user stops it a second time.
    """
    folder = _emptied(options.history)
    with _target(options, settings, folder) as target:
        current = TortureRun(options, settings, target, view)
        try:
            with view, Observer(target.dsn, target.only) as observer:
                current.execute(observer)
        finally:
            current.close()
            verdict = _verdict(folder)
            if verdict is None or verdict.crashed or not verdict.clean:
                _keep_logs(target.logs, folder)
    assert verdict is not None
    return verdict


class TortureRun:
    """The run itself, on a target that is up."""

    def __init__(self, options: RunOptions, settings: Settings, target: Target, view: View) -> None:
        self._options = options
        self._settings = settings
        self._target = target
        self._view = view
        self._log = FaultLog(options.history / "faults.ndjson")
        faults = plan(Random(options.seed), options.seconds, target.members_by_role, target.servers)  # noqa: S311  repeatable
        self._injector = FaultInjector(target, faults, self._log)
        clients = options.history / "clients.ndjson"
        self._traffic = Traffic(
            target.urls,
            clients,
            rate=options.rate,
            mix=MIX,
            seed=options.seed,
            queues=target.queues,
            connections=max(CONNECTIONS, int(options.rate * REQUEST)),
        )
        #: None in a cluster of the user's: there, the schedule would outlive a killed run.
        self._probe = ScheduleProbe(target.urls, target.queues[-1]) if options.name_prefix is None else None
        self._end = 0.0
        self._observer: Observer | None = None

    def execute(self, observer: Observer) -> None:
        """Run load and faults, heal, wait until all jobs ended, and record.

        Raises TaskdError, and StopAsked if the user stops it twice.
        """
        self._observer = observer
        self._traffic.start()
        load_from = time.time()
        stopped = "Ctrl-C: no more faults" if self._inject_faults() else ""
        self._injector.heal()
        whole = self._until(
            f"{stopped or 'the faults are over'}; everything is started again", self._target.is_whole, WHOLE
        )
        healed_at = load_until = time.time()
        if self._probe is not None:
            self._until("pausing the schedule", self._probe.stop, WHOLE)
        self._traffic.begin_stop()
        self._until("waiting for the last answers", lambda: self._traffic.over, LAST * 2)
        quiet = whole and self._until("waiting until every job is over", self._is_quiet, QUIET)
        self._record(quiet=quiet, healed_at=healed_at, load_from=load_from, load_until=load_until)

    def close(self) -> None:
        """Resume frozen processes, and end the load and the log of faults."""
        self._injector.heal()
        self._traffic.stop(0.0)
        self._log.close()

    def _inject_faults(self) -> bool:
        """Run load and faults. Return True if the user stopped them early."""
        try:
            if not self._until("the first jobs", lambda: len(self._traffic.accepted) >= WARM, FIRST_JOBS):
                raise TaskdError(f"fewer than {WARM} jobs were accepted within {FIRST_JOBS:.0f} s")
            if self._probe is not None and not self._until("a schedule", self._probe.start, FIRST_JOBS):
                raise TaskdError(f"no schedule could be made within {FIRST_JOBS:.0f} s")
            self._end = time.monotonic() + self._options.seconds
            self._injector.begin()
            self._until("load and faults", lambda: False, self._options.seconds)
        except StopAsked:
            self._end = time.monotonic()
            return True
        return False

    def _until(self, phase: str, condition: Callable[[], bool], timeout: float) -> bool:
        """Supervise the target until `condition`. Return True if it came true in time. Raises StopAsked."""
        deadline, held = time.monotonic() + timeout, False

        def over() -> bool:
            nonlocal held
            self._injector.step()
            self._view.show(self._scene(phase))
            held = condition()
            return held or time.monotonic() > deadline

        self._target.supervise(over, STEP)
        return held

    def _is_quiet(self) -> bool:
        target, prefix = self._target, self._settings.redis.stream
        return is_quiet(target.dsn, target.redis, prefix=prefix, queues=target.only)

    def _scene(self, phase: str) -> Scene:
        return Scene(
            phase=phase,
            left=max(0.0, self._end - time.monotonic()) if self._end else self._options.seconds,
            seconds=self._options.seconds,
            accepted=len(self._traffic.accepted),
            observation=self._observer.observation if self._observer is not None else Observation(),
            faults=self._log.counts,
            latest=list(self._log.latest),
        )

    def _record(self, *, quiet: bool, healed_at: float, load_from: float, load_until: float) -> None:
        folder, target, settings = self._options.history, self._target, self._settings
        try:
            record(target.dsn, folder, target.only)
            left = redis_left(target.redis, prefix=settings.redis.stream, queues=target.only)
        except psycopg.Error as error:
            raise TaskdError(f"PostgreSQL's part of the history cannot be read: {error}") from error
        except redis.RedisError:
            left = RedisLeft(-1, -1)
        Meta(
            scenario="torture",
            seed=self._options.seed,
            session_ttl=settings.worker.session_ttl,
            ageing=settings.scheduler.ageing,
            grace=process_spec.worker_grace(settings.worker),
            boot_offset=time.time() - trace_clock(),
            healed_at=healed_at,
            load_from=load_from,
            load_until=load_until,
            quiet=quiet,
            redis=left,
        ).save(folder)


@contextmanager
def _target(options: RunOptions, settings: Settings, folder: Path) -> Iterator[Target]:
    with (
        temporary_data(PREFIX, Path(tempfile.gettempdir())) as data,
        (folder / "said.txt").open("w", encoding="utf-8") as file,
    ):

        def say(name: str, line: str) -> None:
            file.write(f"{time.time():.3f}  {name:>12}  {line}\n")
            file.flush()

        if options.name_prefix is None:
            opened = own_cluster(settings.scheduler.shards, data, folder / "trace", say)
        else:
            opened = user_cluster(settings, options.global_options, options.name_prefix, data, folder / "trace", say)
        try:
            with opened as target:
                yield target
        except TaskdError:
            _keep_logs(data / "logs", folder)
            raise


def _keep_logs(logs: Path, folder: Path) -> None:
    """Copy the processes' logs before the target's data are removed."""
    if logs.is_dir() and not (folder / "logs").exists():
        shutil.copytree(logs, folder / "logs")


def _emptied(folder: Path) -> Path:
    """Make the folder, remove the files of an earlier run, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (folder / part).is_dir():
            shutil.rmtree(folder / part)
        else:
            (folder / part).unlink(missing_ok=True)
    return folder


def _verdict(folder: Path) -> Verdict | None:
    """Return the verdict; None if the run broke off before there was a complete history."""
    return judge(History.load(folder)) if (folder / "meta.json").exists() else None
