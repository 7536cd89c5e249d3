"""One request, as a handler sees it: its path, its query, and a body that is never read beyond its limit."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from taskd.api.body_budget import BODIES, SMALL
from taskd.api.problems import FieldError, Problem, invalid, malformed, too_large, too_many_bodies
from taskd.domain.token import Token
from taskd.runtime import meters

#: Seconds in which a body must have arrived: a slow client may not hold its memory for longer.
BODY_DEADLINE = 30.0
#: What is read and thrown away beyond a limit, as a multiple of it. A client that sends its whole body before it listens
#: (most do) then gets the 413; one that goes on for longer is cut off.
DISCARD = 4


#: Who may do nothing at all: a caller that did not pass the door.
NOBODY = Token(id="", name="", digest=bytes(32), scopes=frozenset(), queues=frozenset())


class Disconnected(Exception):
    """The client went away before its request was complete: nobody is there to answer."""


class Call:
    """A request. Header names are lower case bytes."""

    __slots__ = ("_receive", "_reserved", "_scope", "about", "caller")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._reserved = 0
        #: Who asks; set at the door.
        self.caller = NOBODY
        #: What a change is about, if its path does not say: the beginning of its body.
        self.about = ""

    @property
    def client(self) -> str:
        """The address that it came from."""
        return str((self._scope.get("client") or ("",))[0])

    @property
    def line(self) -> str:
        """The method, the path and the query, as it was asked."""
        query: bytes = self._scope["query_string"]
        return f"{self._scope['method']} {self.path}{'?' if query else ''}{query.decode('latin-1')}"

    @property
    def path(self) -> str:
        """The decoded path."""
        path: str = self._scope["path"]
        return path

    def segment(self, name: str) -> str:
        """A variable part of the path."""
        value: str = self._scope["path_params"][name]
        return value

    def header(self, name: bytes) -> bytes | None:
        """The first header of this name."""
        for key, value in self._scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return None

    def content_type(self, *accepted: bytes) -> bytes:
        """Which of the `accepted` media types the body has. Raises a 415 Problem for anything else."""
        given = self.header(b"content-type") or b""
        if given in accepted and self.header(b"content-encoding") is None:
            return given  # as nearly everybody sends it
        media, _, parameters = given.partition(b";")
        media = media.strip().lower()
        if media not in accepted or not _is_utf8(parameters) or self.header(b"content-encoding") is not None:
            wanted = " or ".join(a.decode() for a in accepted)
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"send the body as UTF-8, uncompressed, with the header Content-Type: {wanted}",
                headers=[(b"accept-post", b", ".join(accepted))],
            )
        return media

    def query(self, *known: str) -> dict[str, str]:
        """The query's parameters. Raises a 422 Problem for one that is not `known`, given twice, or no text."""
        raw: bytes = self._scope["query_string"]
        if not raw:
            return {}
        values: dict[str, str] = {}
        try:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
        except ValueError:
            raise malformed("the query string is not URL-encoded UTF-8, or has too many parameters") from None
        for name, value in pairs:
            if name not in known:
                listed = f"there are {', '.join(known)}" if known else "there are none here"
                raise invalid(FieldError(name, f"is no query parameter; {listed}"))
            if name in values:
                raise invalid(FieldError(name, "is given twice"))
            values[name] = value
        return values

    async def body(self, limit: int, hint: str) -> bytes:
        """The whole body, of at most `limit` bytes. Raises 408, 413 (with `hint`) and 503 Problems, and Disconnected.

        Large bodies reserve their length in this process's budget until `release`.
        """
        declared = int(self.header(b"content-length") or 0)
        if declared <= limit:
            self._reserve(declared)  # before the server asks the client to send it (100-continue)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            chunk: bytes = message.get("body", b"")
            if len(chunk) > limit:
                raise too_large(f"the body is larger than {limit} bytes: {hint}")
            self._reserve(len(chunk))
            return chunk
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                return await self._rest(dict(message), limit, hint, useless=declared > limit)
        except TimeoutError:
            raise Problem(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not arrive within {BODY_DEADLINE:g} seconds",
                headers=[(b"connection", b"close")],
            ) from None

    def release(self) -> None:
        """Return what the body has reserved; the request is answered."""
        BODIES.release(self._reserved)
        self._reserved = 0

    def _reserve(self, size: int) -> None:
        """Reserve `size` bytes in all for the body. Raises a 503 Problem if there is no room."""
        if size <= max(SMALL, self._reserved):
            return
        if not BODIES.grow(self._reserved, size):
            meters.TURNED_AWAY.labels("bodies").inc()
            raise too_many_bodies(BODIES.most)
        self._reserved = size

    async def _rest(self, message: dict[str, object], limit: int, hint: str, *, useless: bool) -> bytes:
        """The body from its first `message` on. `useless`: it is known to be too large, so nothing of it is kept."""
        body, discarded = bytearray(), 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            assert isinstance(chunk, bytes)
            if useless or len(body) + len(chunk) > limit:
                useless = True
                discarded += len(body) + len(chunk)
                body.clear()
            else:
                self._reserve(len(body) + len(chunk))
                body += chunk
            more = bool(message.get("more_body", False))
            if not more or discarded > limit * DISCARD:
                break
            message = dict(await self._receive())
        if discarded:
            problem = too_large(f"the body is larger than {limit} bytes: {hint}")
            problem.headers = [(b"connection", b"close")] if more else []
            raise problem
        return bytes(body)

    async def gone(self) -> None:
        """Return when the client has gone away. For use after the body was read, or where there is none."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _is_utf8(parameters: bytes) -> bool:
    """True unless the Content-Type names another charset."""
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"charset" and value.strip(b' "').lower() not in (b"utf-8", b"utf8"):
            return False
    return True
