"""The worker's own /alive, /health and /metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from taskd.domain.health import public
from taskd.runtime import meters

if TYPE_CHECKING:
    from taskd.worker.role import WorkerRole


def build(role: WorkerRole) -> Starlette:
    """Return the ASGI app of one worker."""

    async def alive(_: Request) -> Response:
        return _json({"status": "alive"}, 200)

    async def health(_: Request) -> Response:
        components = role.components()
        status = (
            "unhealthy" if not role.working else "healthy" if all(c.ok for c in components.values()) else "degraded"
        )
        body = {
            "status": status,
            "worker_id": role.worker_id,
            "coordinator_health": components["etcd"].ok,
            "timestamp": int(time.time()),
            "components": public(components),
        }
        return _json(body, 503 if status == "unhealthy" else 200)

    async def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if meters.wants_text(accept):
            meters.show_servers(role.components())
            role.measure()
            text, content_type = await asyncio.to_thread(meters.exposition, accept)
            return Response(text, headers={"content-type": content_type})
        process = {"event_loop_tasks": len(asyncio.all_tasks())}
        return _json({"timestamp": int(time.time()), "worker_id": role.worker_id} | role.stats() | process, 200)

    return Starlette(routes=[Route("/alive", alive), Route("/health", health), Route("/metrics", metrics)])


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
