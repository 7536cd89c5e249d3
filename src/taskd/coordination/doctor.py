"""What `taskd doctor` looks at in etcd."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

from taskd.coordination.client import EndpointStatus, EtcdClient, EtcdRefused
from taskd.coordination.endpoints import reach
from taskd.domain.diagnosis import Diagnosis, note, ok, unreached, wrong
from taskd.domain.errors import ConfigurationError, CoordinatorUnavailable
from taskd.settings import EtcdSettings

NAME = "etcd"
OLDEST = (3, 4)
#: Bytes: half of etcd's default quota. Beyond the quota it takes no writes at all.
LARGE = 1024 * 1024 * 1024


async def examine(settings: EtcdSettings) -> list[Diagnosis]:
    """Ask every endpoint how it is."""
    try:
        endpoints, pems = reach(settings)
    except ConfigurationError as error:
        return [wrong(NAME, str(error), "check ETCD_ENDPOINTS")]
    found = await asyncio.gather(*(_look(EtcdClient([endpoint], pems)) for endpoint in endpoints))
    reached = [status for status in found if isinstance(status, EndpointStatus)]
    rights = await _rights(EtcdClient(endpoints, pems), settings.prefix) if reached else []
    return [*_reached(found), *rights, *_quorum(reached), *_alarms(reached)]


async def _rights(client: EtcdClient, prefix: str) -> list[Diagnosis]:
    """Read a key below our prefix: members tell their state to everybody, and their keys to those with rights."""
    try:
        await client.listing(f"{prefix}/doctor/")
    except EtcdRefused as error:
        return [wrong("etcd rights", str(error), "give a client certificate of a user with rights (etcd.cert_file)")]
    except CoordinatorUnavailable:
        return []  # the other findings have it
    finally:
        await client.close()
    return []


async def _look(client: EtcdClient) -> EndpointStatus | CoordinatorUnavailable:
    try:
        return await client.status()
    except CoordinatorUnavailable as error:
        return error
    finally:
        await client.close()


def _reached(found: Sequence[EndpointStatus | CoordinatorUnavailable]) -> Iterator[Diagnosis]:
    dead = sum(isinstance(one, CoordinatorUnavailable) for one in found)
    for one in found:
        if isinstance(one, CoordinatorUnavailable):
            finding = unreached(NAME, one, "ETCD_ENDPOINTS")
            yield finding if dead == len(found) else note(NAME, finding.text, finding.mend)
        elif _numbers(one.version) < OLDEST:
            yield wrong(NAME, f"{one.endpoint} has version {one.version}", "taskd needs 3.4 or later")
        else:
            yield ok(NAME, f"{one.endpoint} has version {one.version}")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; (0,) of what is none."""
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", version)
    return (int(found[1]), int(found[2])) if found else (0,)


def _quorum(reached: Sequence[EndpointStatus]) -> Iterator[Diagnosis]:
    if any(not one.has_leader for one in reached):
        yield wrong("etcd quorum", "a member has no leader: most of the members are away", "bring the others back")
    for one in reached:
        if one.errors:
            yield note("etcd errors", f"{one.endpoint}: {', '.join(one.errors)}", "see its log")


def _alarms(reached: Sequence[EndpointStatus]) -> Iterator[Diagnosis]:
    alarms = sorted({alarm for one in reached for alarm in one.alarms})
    if "NOSPACE" in alarms:
        yield wrong("etcd space", "is used up: it takes no writes", "compact, defragment, then `etcdctl alarm disarm`")
    elif alarms:
        yield wrong("etcd alarm", ", ".join(alarms), "see its log")
    largest = max((one.size for one in reached), default=0)
    if largest > LARGE:
        yield note(
            "etcd space", f"{largest / 2**20:.0f} MiB", "compact it: --auto-compaction-retention=1h does it by itself"
        )
