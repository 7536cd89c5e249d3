"""Connections to Redis without the library's retries: a repeated XADD would add two entries, and a deadline must hold."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskd.domain.errors import ConfigurationError, TransportAccessDenied, TransportUnavailable
from taskd.runtime.discards import shown
from taskd.runtime.tls import Trust
from taskd.settings import RedisSettings
from taskd.transport.sentinel import behind_sentinels


def connect(settings: RedisSettings, *, deadline: float) -> Redis:
    """Return a client for HOST:PORT, redis://, rediss:// or redis+sentinel://. Its commands end within `deadline` seconds.

    Raises ConfigurationError for a URL of another form, or files for TLS that cannot be used.
    """
    url = settings.url
    full = url if "://" in url else f"redis://{url}"
    if not re.match(r"^(rediss?(\+sentinel)?|unix)://", full):
        raise ConfigurationError(f"REDIS_URL {url!r} must be HOST:PORT, redis://…, rediss://… or redis+sentinel://…")
    tls = _tls(settings, full)
    link = {
        "socket_timeout": deadline,
        "socket_connect_timeout": deadline,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "legacy_responses": False,
        # Other programs may have stored any bytes: decoding never fails, and encoding gives the same bytes back.
        "encoding_errors": "surrogateescape",
        **tls,
    }
    try:
        if "+sentinel://" in full:
            return behind_sentinels(full, link, settings.deadline, decode_responses=True, client_name="taskd")
        client: Redis = Redis.from_url(full, decode_responses=True, client_name="taskd", **link)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL {url!r}: {error}") from None
    return client


def _tls(settings: RedisSettings, url: str) -> dict[str, Any]:
    trust = Trust(settings.ca_file, settings.cert_file, settings.key_file)
    if not url.startswith("rediss"):
        if trust.given:
            raise ConfigurationError("section [redis]: ca_file and cert_file are for rediss://, and the url is another")
        return {}
    trust.check("redis")
    named = {"ssl_ca_certs": trust.ca_file, "ssl_certfile": trust.cert_file, "ssl_keyfile": trust.key_file}
    return {name: file for name, file in named.items() if file}


@asynccontextmanager
async def translated(doing: str) -> AsyncIterator[None]:
    """Turn the library's errors into TransportUnavailable, with one line that names the operation.

    The library sends with `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes as the send completes.
    A leader's duty that is cancelled must end, so a forgotten cancellation is raised here.
    """
    task = asyncio.current_task()
    asked = task.cancelling() if task is not None else 0
    try:
        async with _translated(doing):
            yield
    finally:
        if task is not None and task.cancelling() > asked:
            raise asyncio.CancelledError


@asynccontextmanager
async def _translated(doing: str) -> AsyncIterator[None]:
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise _denied(error, doing) from error
    except OutOfMemoryError as error:
        raise TransportUnavailable(f"Redis is out of memory ({doing}): raise maxmemory") from error
    except ReadOnlyError as error:
        raise TransportUnavailable(f"Redis is a read-only replica ({doing}): point REDIS_URL at the primary") from error
    except (RedisConnectionError, RedisTimeoutError, BusyLoadingError) as error:
        raise TransportUnavailable(f"Redis did not answer ({doing}): {_text(error)}", outcome_unknown=True) from error
    except ResponseError as error:
        raise TransportUnavailable(f"Redis refused a command ({doing}): {_text(error)}") from error
    except RedisError as error:
        raise TransportUnavailable(f"Redis failed ({doing}): {_text(error)}", outcome_unknown=True) from error
    except RuntimeError as error:
        # uvloop's error, which the library passes on, for a write to a connection that was just reset.
        if "the handler is closed" not in str(error):
            raise
        raise TransportUnavailable(f"Redis did not answer ({doing}): the connection was reset") from error


def _denied(error: RedisError, doing: str) -> TransportAccessDenied:
    """Return the refusal in plain words: Redis's own text is about its protocol."""
    text = _text(error)
    if isinstance(error, NoPermissionError):
        advice = "give it the rights that taskd needs (ACL SETUSER; docs/security.md lists them)"
        return TransportAccessDenied(f"Redis does not allow its user a command ({doing}): {text}", advice)
    if "HELLO" in text or "Authentication required" in text:
        return TransportAccessDenied(
            "Redis asks for a password", "put it into REDIS_URL, as in redis://:PASSWORD@HOST:PORT"
        )
    if "without any password" in text:
        return TransportAccessDenied(
            "Redis has no password for its default user", "leave the password out of REDIS_URL"
        )
    if "invalid username-password" in text or "WRONGPASS" in text or "invalid password" in text:
        advice = "correct the user name and the password in REDIS_URL"
        return TransportAccessDenied("Redis does not accept the user name or the password", advice)
    return TransportAccessDenied(f"Redis denies access ({text})", "correct the user name and the password in REDIS_URL")


def _text(error: Exception) -> str:
    """Return Redis's error text, in which the name of a key may be any bytes."""
    return shown(error, 500)
