"""Who comes in: tokens, their scopes, and how often each may ask.

A cluster without tokens is open to whoever reaches it; the first token that is made shuts it for good. Revoking and making
take effect within about two seconds. While PostgreSQL is away, the tokens that were known last go on to hold.
"""

from __future__ import annotations

import asyncio
import math
import time
from http import HTTPStatus

from starlette.types import Scope as Connection

from taskd.api.answers import Header
from taskd.api.call import NOBODY, Call
from taskd.api.hosts import SAFE, Hosts
from taskd.api.problems import Problem, unavailable
from taskd.api.reading import within
from taskd.domain.errors import SchemaMismatch, StoreUnavailable
from taskd.domain.scope import Scope
from taskd.domain.token import PREFIX, Keyring, Token, split
from taskd.runtime import meters
from taskd.runtime.log import logger
from taskd.seams import Tokens

#: Seconds for which the known tokens are not asked for again, and for which an answer is waited for before the old ones do.
FRESH, PATIENCE = 1.0, 0.5

#: Who asks where there are no tokens.
ANYBODY = Token(id="", name="", digest=b"", scopes=frozenset(Scope))
CHALLENGE: Header = (b"www-authenticate", b"Bearer")
#: Paths for probes, which ask at whatever address they know: they show no job.
PROBES = frozenset({"/alive", "/health"})


class Door:
    """Lets callers in. `anybody`: whether everybody may do everything while there are no tokens; `rate`: the requests a second
    that a token has unless it says so itself, 0 for any number; `hosts`: the names that are answered to."""

    def __init__(self, tokens: Tokens, *, anybody: bool, rate: float, hosts: Hosts) -> None:
        self._tokens = tokens
        self._hosts = hosts
        self._anybody = anybody
        self._rate = rate
        self._known: Keyring | None = None
        self._fresh_until = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._buckets: dict[str, Bucket] = {}

    @property
    def stale(self) -> bool:
        """Whether what is known is too old to let anybody in by: `refresh` first."""
        return time.monotonic() >= self._fresh_until

    async def refresh(self) -> None:
        """Learn the tokens as they are now; while PostgreSQL does not say, those that were known last hold on.

        Raises StoreUnavailable or SchemaMismatch if none were ever known.
        """
        if self._known is None:
            await asyncio.shield(self._ask())
        else:
            await asyncio.wait({self._ask()}, timeout=PATIENCE)

    async def keep_pages_out(self, request: Connection) -> None:
        """Refuse what a web page of another site asks for, whatever the path.

        Raises a 403 or 421 Problem, and as `refresh` does where it matters whether there are tokens.
        """
        host = next((value for name, value in request["headers"] if name == b"host"), None)
        if request["method"] not in SAFE:
            self._hosts.check_page(request["headers"], host, request["scheme"])
        if self._hosts.known(host) or request["path"] in PROBES:
            return
        if self.stale:
            await self.refresh()
        if self._known is None or not self._known.closed:
            self._hosts.check(host)

    def let_in(self, call: Call, scope: Scope) -> None:
        """Say who calls, in `call.caller`. Raises a 401, 403, 429 or 503 Problem."""
        assert self._known is not None
        if not self._known.closed:
            if not self._anybody:
                raise unavailable("this scheduler is on a network and has no API tokens: see `taskd token create`")
            call.caller = ANYBODY
            return
        token = _identify(self._known, call.header(b"authorization"))
        if token is None:
            meters.TURNED_AWAY.labels("unauthenticated").inc()
            raise Problem(HTTPStatus.UNAUTHORIZED, _unknown(call), headers=[CHALLENGE])
        if not token.allows(scope):
            raise forbidden(f"the token {token.name!r} has not the scope {scope}")
        self._count(token)
        call.caller = token

    def _ask(self) -> asyncio.Task[None]:
        """The read that is under way, or a new one: all who come meanwhile wait for the same."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._read())
            self._asking.add_done_callback(_forget)
        return self._asking

    async def _read(self) -> None:
        asked = time.monotonic()
        try:
            self._known = await within(self._tokens.keyring())
            self._fresh_until = asked + FRESH
            self._buckets = {i: bucket for i, bucket in self._buckets.items() if i in self._known.tokens}
        except (StoreUnavailable, SchemaMismatch):
            if self._known is None:
                raise
            # /health tells of it; better the tokens of a moment ago than nobody.
            self._fresh_until = time.monotonic() + FRESH
        finally:
            self._asking = None

    def _count(self, token: Token) -> None:
        rate = token.rate if token.rate is not None else self._rate
        if not rate:
            return
        bucket = self._buckets.get(token.id)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[token.id] = Bucket(rate)
        wait = bucket.take()
        if wait > 0:
            meters.TURNED_AWAY.labels("rate").inc()
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"the token {token.name!r} may make {rate:g} requests a second",
                headers=[(b"retry-after", str(math.ceil(wait)).encode())],
            )


def _forget(reading: asyncio.Task[None]) -> None:
    """Look at a failure whose callers may all have gone; one that is no outage is told, for the old tokens hold on."""
    error = None if reading.cancelled() else reading.exception()
    if error is not None and not isinstance(error, (StoreUnavailable, SchemaMismatch)):
        logger().error("the API tokens cannot be read: those that were known last hold on", exc_info=error)


class Bucket:
    """A token bucket: `rate` a second, and a second's worth (at least one) at once."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate)
        self._left = self._most
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one; 0, or the seconds until there is one."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self.rate
        self._left -= 1
        return 0.0


def forbidden(detail: str) -> Problem:
    """403: we know who it is, and they may not."""
    meters.TURNED_AWAY.labels("forbidden").inc()
    return Problem(HTTPStatus.FORBIDDEN, detail)


def audit(call: Call, status: int) -> None:
    """One line for each change that somebody made to what others submitted."""
    who = {"token": call.caller.name or None, "client": call.client}
    logger().info("audit", **who, request=call.line, about=call.about or None, status=int(status))


def _identify(keyring: Keyring, header: bytes | None) -> Token | None:
    """The token that this Authorization header has, if it holds."""
    kind, _, text = (header or b"").decode("latin-1").partition(" ")
    found = split(text.strip()) if kind.lower() == "bearer" else None
    if found is None:
        return None
    token = keyring.tokens.get(found[0], NOBODY)  # compared all the same: an unknown id takes as long as a wrong secret
    return token if token.proves(found[1]) else None


def _unknown(call: Call) -> str:
    if call.header(b"authorization") is None:
        return f"a token is needed: send Authorization: Bearer {PREFIX}_… (the command line takes it from TASKD_TOKEN)"
    return "this token does not hold: it is wrong, it has expired, or it was revoked"
