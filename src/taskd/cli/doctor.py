"""`taskd doctor`: checks the configuration and the servers that taskd needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from taskd.cli import options, output

if TYPE_CHECKING:
    from taskd.domain.diagnosis import Diagnosis
    from taskd.settings import Settings


def doctor(context: typer.Context, as_json: options.JsonOption = False) -> int:
    """Check the configuration, PostgreSQL, Redis and etcd.

    Each problem is shown with its fix. Exit status 1 if there is a problem.

    Example: POSTGRES_DSN=postgresql://localhost/taskd taskd doctor
    """
    import msgspec  # noqa: PLC0415  keeps --help quick

    from taskd.runtime.secrets import mask  # noqa: PLC0415

    settings = options.settings(context, related=False)  # settings that do not fit together are a finding here
    findings = [
        msgspec.structs.replace(finding, text=mask(finding.text)) for finding in asyncio.run(_examine(settings))
    ]
    healthy = all(finding.level != "wrong" for finding in findings)
    if as_json:
        output.print_json({"healthy": healthy, "findings": msgspec.to_builtins(findings)})
    else:
        from taskd.cli import tables  # noqa: PLC0415  loads rich

        output.show(tables.findings(findings))
    return 0 if healthy else 1


async def _examine(settings: Settings) -> list[Diagnosis]:
    from taskd.coordination import doctor as etcd  # noqa: PLC0415  loads gRPC
    from taskd.domain.diagnosis import ok  # noqa: PLC0415
    from taskd.store import doctor as postgres  # noqa: PLC0415  loads the PostgreSQL driver
    from taskd.transport import doctor as redis  # noqa: PLC0415  loads the Redis client

    servers = await asyncio.gather(
        asyncio.to_thread(
            postgres.examine, settings.postgres.dsn, settings.scheduler.leader_stale, pooled=settings.postgres.pooled
        ),
        redis.examine(settings.redis),
        etcd.examine(settings.etcd, settings.worker.session_ttl),
    )
    configuration = [ok("configuration", "no unknown key, no wrong type"), *_timings(settings)]
    return [*configuration, *(finding for findings in servers for finding in findings)]


def _timings(settings: Settings) -> list[Diagnosis]:
    from taskd.domain.diagnosis import ok, wrong  # noqa: PLC0415  as above
    from taskd.settings import unfit_times  # noqa: PLC0415  as above

    lines = unfit_times(settings)
    advice = "change one of the two: schedulers and workers refuse to start with them"
    return [wrong("timings", line, advice) for line in lines] or [ok("timings", "they fit together")]
