"""Redis behind Sentinels: `redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT,…/NAME[/DATABASE]`, or `rediss+sentinel://`.

Each new connection asks the Sentinels for the primary, so after a failover the next command that finds its connection broken
finds the new one. Entries that the old primary did not replicate in time are lost; the leader re-offers their jobs.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

PORT = 26379
FORM = "the form is redis+sentinel://HOST:PORT,HOST:PORT/NAME, where NAME is the primary's name in the Sentinels"


class Primary(Redis):
    """A client of the current primary."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections, and those to the Sentinels, which the library would leave open."""
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def behind_sentinels(url: str, link: dict[str, Any], patience: float, **options: Any) -> Redis:
    """Return a client of the current primary, found within `patience` seconds. `link`: options for Sentinels and primary.

    Raises ValueError for a bad URL.
    """
    parts = urlsplit(url)
    name, _, database = parts.path.strip("/").partition("/")
    credentials, _, hosts = parts.netloc.rpartition("@")
    if not name or not hosts or not (database or "0").isdecimal():
        raise ValueError(FORM)
    user, _, password = credentials.partition(":")
    addresses = [_address(host) for host in hosts.split(",")]
    # Finding the primary and one command fit into one deadline, even where all Sentinels but one are silent.
    share = patience / (len(addresses) + 1)
    secure = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        addresses,
        sentinel_kwargs={**link, "socket_timeout": share, "socket_connect_timeout": share, **secure, **_own(parts)},
        **link,
        **secure,
        **options,
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(database or 0),
    )
    primary: Primary = sentinels.master_for(name, redis_class=Primary)
    return primary


def _address(text: str) -> tuple[str, int]:
    try:
        found = urlsplit(f"//{text}")
        host, port = found.hostname, found.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(FORM)
    return host, port or PORT


def _own(parts: SplitResult) -> dict[str, str]:
    """Return the Sentinels' own credentials: `?sentinel_username=…&sentinel_password=…`."""
    found = dict(parse_qsl(parts.query))
    if unknown := sorted(found.keys() - {"sentinel_username", "sentinel_password"}):
        raise ValueError(f"{unknown[0]!r} is no parameter of redis+sentinel://")
    return {name.removeprefix("sentinel_"): value for name, value in found.items()}
