"""One run of `taskd torture`: load and faults on an arena, healing, quiet, the history, the verdict."""

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
from taskd.torture import target as arenas
from taskd.torture.fault_injector import FaultInjector
from taskd.torture.fault_plan import plan
from taskd.torture.faultlog import FaultLog
from taskd.torture.history import History, Meta, RedisLeft, record
from taskd.torture.observer import Observation, Observer
from taskd.torture.quiet import is_quiet, redis_left
from taskd.torture.schedule_probe import ScheduleProbe
from taskd.torture.target import Target
from taskd.torture.tasks import now as trace_clock
from taskd.torture.traffic import CONNECTIONS, LAST, REQUEST, Traffic
from taskd.torture.verdict import Verdict, judge
from taskd.torture.view import Scene, View
from taskd.torture.workload import Workload

PREFIX = "taskd-torture-"
#: Seconds between two steps of the faults.
STEP = 0.1
#: Seconds that the cluster gets: to accept the first jobs, to be whole again, to come to rest.
FIRST_JOBS, WHOLE, QUIET = 60.0, 60.0, 60.0
#: Jobs that must be accepted before the first fault.
WARM = 5
#: The standard mix, and a few per cent of jobs that are cancelled, or that store checkpoints and go on from them.
MIX = Workload(cancelled=3.0, climbing=4.0)

_HISTORY = ("meta.json", "clients.ndjson", "faults.ndjson", "trace")
_ROWS = ("events.ndjson", "terms.ndjson", "sessions.ndjson", "outputs.ndjson", "jobs.ndjson")
_DUMPS = (*_ROWS, "schedules.ndjson", "fires.ndjson")
#: What a run writes into its folder, and removes of an earlier one.
PARTS = (*_HISTORY, *_DUMPS, "said.txt", "logs")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `guest` is our name in a cluster of the user's, None in our own; `options` are for its processes."""

    seconds: float
    rate: float
    seed: int
    history: Path
    guest: str | None = None
    options: tuple[str, ...] = ()


def run(order: RunOptions, settings: Settings, view: View) -> Verdict:
    """Do all of it; the history is left in `order.history`. Raises TaskdError; StopAsked if stopped a second time."""
    folder = _emptied(order.history)
    with _arena(order, settings, folder) as arena:
        campaign = TortureRun(order, settings, arena, view)
        try:
            with view, Observer(arena.dsn, arena.only) as lookout:
                campaign.fight(lookout)
        finally:
            campaign.close()
            verdict = _verdict(folder)
            if verdict is None or verdict.crashed or not verdict.clean:
                _keep_logs(arena.logs, folder)
    assert verdict is not None
    return verdict


class TortureRun:
    """The run itself, once the arena stands."""

    def __init__(self, order: RunOptions, settings: Settings, arena: Target, view: View) -> None:
        self._order = order
        self._settings = settings
        self._arena = arena
        self._view = view
        self._log = FaultLog(order.history / "faults.ndjson")
        strikes = plan(Random(order.seed), order.seconds, arena.members_by_role, arena.servers)  # noqa: S311  repeatable
        self._assault = FaultInjector(arena, strikes, self._log)
        clients = order.history / "clients.ndjson"
        self._traffic = Traffic(
            arena.urls,
            clients,
            rate=order.rate,
            mix=MIX,
            seed=order.seed,
            queues=arena.queues,
            connections=max(CONNECTIONS, int(order.rate * REQUEST)),
        )
        #: In a cluster of the user's a schedule would outlive us if we were killed.
        self._pulse = ScheduleProbe(arena.urls, arena.queues[-1]) if order.guest is None else None
        self._end = 0.0
        self._lookout: Observer | None = None

    def fight(self, lookout: Observer) -> None:
        """Load, faults, healing, quiet, record. Raises TaskdError, and StopAsked if stopped twice."""
        self._lookout = lookout
        self._traffic.start()
        load_from = time.time()
        stopped = "Ctrl-C: no more faults" if self._suffer() else ""
        self._assault.heal()
        whole = self._until(
            f"{stopped or 'the faults are over'}; everything is started again", self._arena.is_whole, WHOLE
        )
        healed_at = load_until = time.time()
        if self._pulse is not None:
            self._until("pausing the schedule", self._pulse.stop, WHOLE)
        self._traffic.cease()
        self._until("waiting for the last answers", lambda: self._traffic.over, LAST * 2)
        quiet = whole and self._until("waiting until every job is over", self._is_quiet, QUIET)
        self._record(quiet=quiet, healed_at=healed_at, load_from=load_from, load_until=load_until)

    def close(self) -> None:
        """End what may still go on."""
        self._assault.heal()
        self._traffic.stop(0.0)
        self._log.close()

    def _suffer(self) -> bool:
        """The faults; True if the user had enough before their end."""
        try:
            if not self._until("the first jobs", lambda: len(self._traffic.accepted) >= WARM, FIRST_JOBS):
                raise TaskdError(f"fewer than {WARM} jobs were accepted within {FIRST_JOBS:.0f} s")
            if self._pulse is not None and not self._until("a schedule", self._pulse.start, FIRST_JOBS):
                raise TaskdError(f"no schedule could be made within {FIRST_JOBS:.0f} s")
            self._end = time.monotonic() + self._order.seconds
            self._assault.begin()
            self._until("load and faults", lambda: False, self._order.seconds)
        except StopAsked:
            self._end = time.monotonic()
            return True
        return False

    def _until(self, phase: str, condition: Callable[[], bool], timeout: float) -> bool:
        """Keep everything alive until `condition`; whether it came true in time. Raises StopAsked."""
        deadline, held = time.monotonic() + timeout, False

        def over() -> bool:
            nonlocal held
            self._assault.step()
            self._view.show(self._scene(phase))
            held = condition()
            return held or time.monotonic() > deadline

        self._arena.keep(over, STEP)
        return held

    def _is_quiet(self) -> bool:
        arena, prefix = self._arena, self._settings.redis.stream
        return is_quiet(arena.dsn, arena.redis, prefix=prefix, queues=arena.only)

    def _scene(self, phase: str) -> Scene:
        return Scene(
            phase=phase,
            left=max(0.0, self._end - time.monotonic()) if self._end else self._order.seconds,
            seconds=self._order.seconds,
            accepted=len(self._traffic.accepted),
            sight=self._lookout.sight if self._lookout is not None else Observation(),
            faults=self._log.counts,
            latest=list(self._log.latest),
        )

    def _record(self, *, quiet: bool, healed_at: float, load_from: float, load_until: float) -> None:
        folder, arena, settings = self._order.history, self._arena, self._settings
        try:
            record(arena.dsn, folder, arena.only)
            left = redis_left(arena.redis, prefix=settings.redis.stream, queues=arena.only)
        except psycopg.Error as error:
            raise TaskdError(f"PostgreSQL did not give its part of the history: {error}") from error
        except redis.RedisError:
            left = RedisLeft(-1, -1)
        Meta(
            scenario="torture",
            seed=self._order.seed,
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
def _arena(order: RunOptions, settings: Settings, folder: Path) -> Iterator[Target]:
    with (
        temporary_data(PREFIX, Path(tempfile.gettempdir())) as data,
        (folder / "said.txt").open("w", encoding="utf-8") as said,
    ):

        def say(name: str, line: str) -> None:
            said.write(f"{time.time():.3f}  {name:>12}  {line}\n")
            said.flush()

        if order.guest is None:
            made = arenas.own(settings.scheduler.shards, data, folder / "trace", say)
        else:
            made = arenas.given(settings, order.options, order.guest, data, folder / "trace", say)
        try:
            with made as arena:
                yield arena
        except TaskdError:
            _keep_logs(data / "logs", folder)
            raise


def _keep_logs(logs: Path, folder: Path) -> None:
    """Save the processes' logs from the end of the arena's data."""
    if logs.is_dir() and not (folder / "logs").exists():
        shutil.copytree(logs, folder / "logs")


def _emptied(folder: Path) -> Path:
    """The folder without what an earlier run left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (folder / part).is_dir():
            shutil.rmtree(folder / part)
        else:
            (folder / part).unlink(missing_ok=True)
    return folder


def _verdict(folder: Path) -> Verdict | None:
    """The verdict; None if the run broke off before there was a whole history."""
    return judge(History.load(folder)) if (folder / "meta.json").exists() else None
