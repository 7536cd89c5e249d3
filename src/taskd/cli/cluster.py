"""The cluster as one document, put together from several answers of one scheduler."""

from __future__ import annotations

from typing import Any

from taskd.client import Client, ClientError

PARTS = ("leader", "schedulers", "workers", "queues", "metrics")


def look(client: Client) -> dict[str, Any]:
    """Health and all PARTS; a part that cannot be told (PostgreSQL away) is None. Raises ClientError if nobody answers."""
    seen: dict[str, Any] = {"health": client.health()}
    able = seen["health"]["status"] != "unhealthy"
    for part in PARTS:
        seen[part] = _part(client, part) if able or part in ("leader", "schedulers") else None
    return seen


def _part(client: Client, part: str) -> Any:
    try:
        return client.get(f"/{part}")
    except ClientError as error:
        # It went away between two questions; or the token is for some queues only, and the counters are of all.
        if error.status == 503 or (error.status == 403 and part == "metrics"):
            return None
        raise
