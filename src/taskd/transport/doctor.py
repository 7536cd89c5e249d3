"""The checks of `taskd doctor` in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from taskd.domain.diagnosis import Diagnosis, note, ok, unreached, wrong
from taskd.domain.errors import ConfigurationError, TransportAccessDenied, TransportUnavailable
from taskd.runtime.discards import shown
from taskd.settings import RedisSettings
from taskd.transport.connection import connect, translated
from taskd.transport.keys import RedisKeys

NAME = "Redis"
OLDEST = (6, 2)
#: The share of maxmemory above which the doctor notes it.
FULL = 0.8
#: Seconds that listing keys may take; and the most wrong keys that are named.
LOOK, NAMED = 2.0, 5


async def examine(settings: RedisSettings) -> list[Diagnosis]:
    """Connect, and return the diagnoses."""
    try:
        client = connect(settings, deadline=settings.deadline)
    except ConfigurationError as error:
        return [wrong(NAME, str(error), "check REDIS_URL")]
    keys = RedisKeys(settings.stream)
    try:
        async with translated("doctor"):
            # One command of each kind that taskd needs: an ACL that is enough for taskd is enough for these.
            began = time.monotonic()
            await client.set(keys.probe, "", px=1000)
            took = time.monotonic() - began
            await client.eval("return 1", 0)
            await client.xlen(f"{keys.probe}:stream")
            await client.publish(keys.probe, "")
            await client.pttl(keys.probe)
            spoilt = await _spoilt(client, keys)
        return [*await _look(client, took), *_keys(spoilt)]
    except TransportAccessDenied as error:
        return [wrong(NAME, error.what, error.advice)]
    except TransportUnavailable as error:
        return [unreached(NAME, error, "REDIS_URL", tls=settings.url.startswith("rediss"))]
    finally:
        await client.aclose()


async def _look(client: Redis, took: float) -> list[Diagnosis]:
    """Return diagnoses from INFO, if this user may ask for it."""
    try:
        async with translated("doctor"):
            facts = await client.info()
    except TransportAccessDenied:
        return [ok(NAME, "takes writes; its user may not ask for its version and memory (INFO)")]
    return [*_server(facts, took), *_memory(facts)]


async def _spoilt(client: Redis, keys: RedisKeys) -> list[str]:
    """Return keys with names of streams and another type, as far as the keys can be listed within LOOK seconds."""
    found: list[str] = []
    until, cursor = time.monotonic() + LOOK, 0
    try:
        while True:
            cursor, names = await client.scan(cursor, match=keys.pattern, count=1000)
            async with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.type(name)
                kinds = await pipe.execute()
            found += [str(name) for name, kind in zip(names, kinds, strict=True) if kind not in ("stream", "none")]
            if not cursor or time.monotonic() > until:
                return found
    except (NoPermissionError, ResponseError):  # an ACL that is enough for taskd may forbid listing keys
        return found


def _keys(spoilt: list[str]) -> Iterator[Diagnosis]:
    if spoilt:
        shortened = ", ".join(shown(name) for name in sorted(spoilt)[:NAMED])
        more = f" and {len(spoilt) - NAMED} more" if len(spoilt) > NAMED else ""
        yield wrong("Redis keys", f"no streams, and their queues wait: {shortened}{more}", "delete them (DEL)")


def _server(facts: dict[str, Any], took: float) -> Iterator[Diagnosis]:
    name = "Valkey" if "valkey_version" in facts else NAME
    version = str(facts.get("valkey_version") or facts.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        yield wrong(NAME, f"version {version}", "taskd needs 6.2 or later")
    elif facts.get("role") not in (None, "master"):
        yield wrong(NAME, f"{name} {version}, a replica", "point REDIS_URL at the primary")
    elif took > 0.1:
        yield note(
            NAME, f"{name} {version} took {took * 1000:.0f} ms to answer", "look for slow commands or a slow network"
        )
    else:
        yield ok(NAME, f"{name} {version}")
    if facts.get("cluster_enabled"):
        yield wrong("Redis Cluster", "is on: one script touches several streams", "use a single Redis, or Sentinel")


def _memory(facts: dict[str, Any]) -> Iterator[Diagnosis]:
    policy, used, most = facts.get("maxmemory_policy", ""), facts.get("used_memory", 0), facts.get("maxmemory", 0)
    if policy not in ("", "noeviction"):
        yield wrong("Redis policy", f"{policy}: it deletes entries when it is full", "set maxmemory-policy noeviction")
    elif policy:
        yield ok("Redis policy", policy)
    if most and used > FULL * most:
        yield note(
            "Redis memory",
            f"{used / most:.0%} of maxmemory used",
            "raise maxmemory, or find the other users of its memory",
        )
