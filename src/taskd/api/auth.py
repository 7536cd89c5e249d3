"""Authentication and authorization: tokens, their scopes, and their rates.

While there are no tokens, every caller that reaches the cluster may do everything; making the first token ends that for
good. A token that is made or revoked takes effect within about two seconds. While PostgreSQL is away, the tokens that were
read last stay valid.
"""

from __future__ import annotations

import asyncio
import math
import time
from http import HTTPStatus

from starlette.types import Scope as Connection

from taskd.api.hosts import SAFE, Hosts
from taskd.api.problems import Problem, unavailable
from taskd.api.reads import SingleFlight, within
from taskd.api.request import UNAUTHENTICATED, Request
from taskd.api.responses import Header
from taskd.domain.errors import SchemaMismatch, StoreUnavailable
from taskd.domain.scope import Scope
from taskd.domain.token import PREFIX, Keyring, Token, split
from taskd.runtime import meters
from taskd.runtime.log import logger
from taskd.seams import Tokens

#: Seconds for which tokens are not read again; and for which a request waits for a new read before the old tokens decide.
FRESH, PATIENCE = 1.0, 0.5

#: The caller where there are no tokens.
ANONYMOUS = Token(id="", name="", digest=b"", scopes=frozenset(Scope))
CHALLENGE: Header = (b"www-authenticate", b"Bearer")
#: Paths for probes, which use any address of the scheduler: they show no job.
PROBES = frozenset({"/alive", "/health"})


class Authenticator:
    """Finds the caller of a request and checks what the caller may do.

    `allow_anonymous`: while there are no tokens, every caller may do everything. `rate`: requests a second of a token that has
    no rate of its own, 0 for no limit. `hosts`: the host names that this scheduler answers to.
    """

    def __init__(self, tokens: Tokens, *, allow_anonymous: bool, rate: float, hosts: Hosts) -> None:
        self._tokens = tokens
        self._hosts = hosts
        self._allow_anonymous = allow_anonymous
        self._rate = rate
        self._keyring: Keyring | None = None
        self._fresh_until = 0.0
        self._reading = SingleFlight(self._read, finished=_log_failure)
        self._buckets: dict[str, TokenBucket] = {}

    @property
    def stale(self) -> bool:
        """True if the tokens were read too long ago to decide by: call `refresh` first."""
        return time.monotonic() >= self._fresh_until

    async def refresh(self) -> None:
        """Read the tokens. While PostgreSQL does not answer, those that were read last stay valid.

        Raises StoreUnavailable or SchemaMismatch if they were never read.
        """
        if self._keyring is None:
            await asyncio.shield(self._reading.start())
        else:
            await asyncio.wait({self._reading.start()}, timeout=PATIENCE)

    async def refuse_foreign_pages(self, request: Connection) -> None:
        """Refuse a request that a web page of another site makes, whatever its path.

        Raises a 403 or 421 Problem, and as `refresh` where it matters whether there are tokens.
        """
        host = next((value for name, value in request["headers"] if name == b"host"), None)
        if request["method"] not in SAFE:
            self._hosts.check_page(request["headers"], host, request["scheme"])
        if self._hosts.known(host) or request["path"] in PROBES:
            return
        if self.stale:
            await self.refresh()
        if self._keyring is None or not self._keyring.closed:
            self._hosts.check(host)

    def authorize(self, request: Request, scope: Scope) -> None:
        """Set `request.caller`. Raises a 401, 403, 429 or 503 Problem."""
        assert self._keyring is not None
        if not self._keyring.closed:
            if not self._allow_anonymous:
                raise unavailable("this scheduler is on a network and has no API tokens: see `taskd token create`")
            request.caller = ANONYMOUS
            return
        token = _identify(self._keyring, request.header(b"authorization"))
        if token is None:
            meters.TURNED_AWAY.labels("unauthenticated").inc()
            raise Problem(HTTPStatus.UNAUTHORIZED, _unauthenticated(request), headers=[CHALLENGE])
        if not token.allows(scope):
            raise lacks_scope(token, scope)
        self._count(token)
        request.caller = token

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            self._keyring = await within(self._tokens.keyring())
            self._fresh_until = began + FRESH
            self._buckets = {i: bucket for i, bucket in self._buckets.items() if i in self._keyring.tokens}
        except (StoreUnavailable, SchemaMismatch):
            if self._keyring is None:
                raise
            # /health shows the outage. Tokens of a moment ago are better than refusing every caller.
            self._fresh_until = time.monotonic() + FRESH

    def _count(self, token: Token) -> None:
        """Count a request against the token's rate. Raises a 429 Problem."""
        rate = token.rate if token.rate is not None else self._rate
        if not rate:
            return
        bucket = self._buckets.get(token.id)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[token.id] = TokenBucket(rate)
        wait = bucket.take()
        if wait > 0:
            meters.TURNED_AWAY.labels("rate").inc()
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"the token {token.name!r} may make {rate:g} requests a second",
                headers=[(b"retry-after", str(math.ceil(wait)).encode())],
            )


def _log_failure(reading: asyncio.Task[None]) -> None:
    """Log an error that is not an outage: no caller may be left to get it, and the old tokens stay valid."""
    error = None if reading.cancelled() else reading.exception()
    if error is not None and not isinstance(error, (StoreUnavailable, SchemaMismatch)):
        logger().error("cannot read the API tokens: those that were read last stay valid", exc_info=error)


class TokenBucket:
    """A token bucket: `rate` requests a second, and one second's worth (at least one) at once."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._capacity = max(1.0, rate)
        self._left = self._capacity
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one and return 0, or return the seconds until there is one."""
        now = time.monotonic()
        self._left = min(self._capacity, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self.rate
        self._left -= 1
        return 0.0


def forbidden(detail: str) -> Problem:
    """Return a 403 Problem: the caller is known and may not do this."""
    meters.TURNED_AWAY.labels("forbidden").inc()
    return Problem(HTTPStatus.FORBIDDEN, detail)


def lacks_scope(token: Token, scope: Scope, reason: str = "") -> Problem:
    """Return a 403 Problem for a token without the scope."""
    return forbidden(f"the token {token.name!r} lacks the scope {scope}{reason}")


def audit(request: Request, status: int) -> None:
    """Log one line for a change to what others submitted."""
    caller = {"token": request.caller.name or None, "client": request.client}
    logger().info("audit", **caller, request=request.line, about=request.about or None, status=int(status))


def _identify(keyring: Keyring, header: bytes | None) -> Token | None:
    """Return the token that an Authorization header proves; None without one."""
    kind, _, text = (header or b"").decode("latin-1").partition(" ")
    parts = split(text.strip()) if kind.lower() == "bearer" else None
    if parts is None:
        return None
    token_id, secret = parts
    # An unknown id is compared too, so that it takes as long as a wrong secret.
    token = keyring.tokens.get(token_id, UNAUTHENTICATED)
    return token if token.proves(secret) else None


def _unauthenticated(request: Request) -> str:
    if request.header(b"authorization") is None:
        return f"a token is needed: send Authorization: Bearer {PREFIX}_… (the command line takes it from TASKD_TOKEN)"
    return "this token is not valid: it is wrong, has expired or was revoked"
