"""The checks of `taskd doctor` in etcd."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

from taskd.coordination import values
from taskd.coordination.client import EtcdClient
from taskd.coordination.endpoints import reach
from taskd.coordination.keys import EtcdKeys
from taskd.coordination.records import EndpointStatus, EtcdRefused
from taskd.domain.diagnosis import Diagnosis, note, ok, unreached, wrong
from taskd.domain.errors import ConfigurationError, CoordinatorUnavailable
from taskd.seams import Member
from taskd.settings import EtcdSettings

NAME = "etcd"
OLDEST = (3, 4)
#: Bytes: half of etcd's default quota. Beyond the quota it takes no writes at all.
LARGE = 1024 * 1024 * 1024


async def examine(settings: EtcdSettings, session_ttl: float | None = None) -> list[Diagnosis]:
    """Ask every endpoint for its status, and return the diagnoses.

    With `session_ttl` (seconds), compare it with those of the live workers.
    """
    try:
        endpoints, pems = reach(settings)
    except ConfigurationError as error:
        return [wrong(NAME, str(error), "check ETCD_ENDPOINTS")]
    statuses = await asyncio.gather(*(_look(EtcdClient([endpoint], pems)) for endpoint in endpoints))
    reached = [status for status in statuses if isinstance(status, EndpointStatus)]
    rights = await _rights(EtcdClient(endpoints, pems), settings.prefix) if reached else []
    workers: list[Member] = []
    if session_ttl is not None and reached and not rights:
        workers = await _workers(EtcdClient(endpoints, pems), EtcdKeys(settings.prefix))
    return [*_reached(statuses), *rights, *_quorum(reached), *_alarms(reached), *_sessions(workers, session_ttl)]


async def _rights(client: EtcdClient, prefix: str) -> list[Diagnosis]:
    """Read a key below the prefix: etcd tells its status to any client, but keys only to users with rights."""
    try:
        await client.listing(f"{prefix}/doctor/")
    except EtcdRefused as error:
        return [wrong("etcd rights", str(error), "give a client certificate of a user with rights (etcd.cert_file)")]
    except CoordinatorUnavailable:
        return []  # reported by the other diagnoses
    finally:
        await client.close()
    return []


async def _workers(client: EtcdClient, keys: EtcdKeys) -> list[Member]:
    """Return the live workers of the registry; none if etcd does not answer, which other findings have."""
    try:
        listing = await client.listing(f"{keys.members}worker/")
    except CoordinatorUnavailable:
        return []
    finally:
        await client.close()
    read = (values.member(key.value) for key in listing.keys)
    return [member for member in read if member is not None]


def _sessions(workers: Sequence[Member], session_ttl: float | None) -> Iterator[Diagnosis]:
    """Compare the sessions of live workers; a worker that shows no length (0) is left out."""
    others = sorted((one.id, one.lease) for one in workers if one.lease not in (0, session_ttl))
    if others:
        name, lease = others[0]
        more = f", and {len(others) - 1} more differ" if len(others) > 1 else ""
        yield note(
            "sessions",
            f"worker {name} runs with worker.session_ttl {lease:.15g}, these settings have {session_ttl:.15g}{more}",
            "give schedulers and workers the same value: the leader waits for one session of its own setting",
        )


async def _look(client: EtcdClient) -> EndpointStatus | CoordinatorUnavailable:
    try:
        return await client.status()
    except CoordinatorUnavailable as error:
        return error
    finally:
        await client.close()


def _reached(statuses: Sequence[EndpointStatus | CoordinatorUnavailable]) -> Iterator[Diagnosis]:
    dead = sum(isinstance(status, CoordinatorUnavailable) for status in statuses)
    for status in statuses:
        if isinstance(status, CoordinatorUnavailable):
            finding = unreached(NAME, status, "ETCD_ENDPOINTS")
            yield finding if dead == len(statuses) else note(NAME, finding.text, finding.advice)
        elif _numbers(status.version) < OLDEST:
            yield wrong(NAME, f"{status.endpoint} has version {status.version}", "taskd needs 3.4 or later")
        else:
            yield ok(NAME, f"{status.endpoint} has version {status.version}")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; (0,) for a malformed one."""
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", version)
    return (int(found[1]), int(found[2])) if found else (0,)


def _quorum(reached: Sequence[EndpointStatus]) -> Iterator[Diagnosis]:
    if any(not status.has_leader for status in reached):
        yield wrong("etcd quorum", "a member has no leader: most of the members are away", "bring the others back")
    for status in reached:
        if status.errors:
            yield note("etcd errors", f"{status.endpoint}: {', '.join(status.errors)}", "see its log")


def _alarms(reached: Sequence[EndpointStatus]) -> Iterator[Diagnosis]:
    alarms = sorted({alarm for status in reached for alarm in status.alarms})
    if "NOSPACE" in alarms:
        yield wrong("etcd space", "is used up: it takes no writes", "compact, defragment, then `etcdctl alarm disarm`")
    elif alarms:
        yield wrong("etcd alarm", ", ".join(alarms), "see its log")
    largest = max((status.size for status in reached), default=0)
    if largest > LARGE:
        yield note(
            "etcd space", f"{largest / 2**20:.0f} MiB", "compact it, or let etcd do so: --auto-compaction-retention=1h"
        )
