"""The cluster as one document, put together from several responses of one scheduler."""

from __future__ import annotations

from typing import Any

from taskd.client import Client, ClientError

PARTS = ("leader", "schedulers", "workers", "queues", "metrics")


def read_cluster(client: Client) -> dict[str, Any]:
    """Return health and all PARTS; a part that is unavailable (PostgreSQL is away) is None.

    Raises ClientError if no scheduler answers.
    """
    document: dict[str, Any] = {"health": client.health()}
    usable = document["health"]["status"] != "unhealthy"
    for part in PARTS:
        document[part] = _part(client, part) if usable or part in ("leader", "schedulers") else None
    return document


def _part(client: Client, part: str) -> Any:
    try:
        return client.get(f"/{part}")
    except ClientError as error:
        # PostgreSQL went away between two requests; or the token is for some queues only, and the counters are of all.
        if error.status == 503 or (error.status == 403 and part == "metrics"):
            return None
        raise
