"""The resources under /config: the live configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from taskd.api.auth import forbidden, lacks_scope
from taskd.api.decoding import decode
from taskd.api.parameters import NEXT_PAGE, WHO, Id, Who, changed_by, number, who_of
from taskd.api.problems import FieldError, Problem, invalid
from taskd.api.queue_access import require_all
from taskd.api.reads import within
from taskd.api.request import Request
from taskd.api.responses import Response, document, next_page
from taskd.api.routes import BODY_PROBLEMS, JSON, READ_PROBLEMS, Operation, Parameter, Resource, Result, Route
from taskd.api.strictjson import has_nul
from taskd.domain.config import RULES, Version, concerns_only, operates
from taskd.domain.errors import InvalidLiveValue
from taskd.domain.job import MAX_ID
from taskd.domain.scope import Scope
from taskd.seams import ConfigEditing

MAX_BODY = 16 * 1024
PAGE = 100

Limit = Annotated[int, Meta(ge=1, le=PAGE)]


class Setting(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT /config/{key}: the value, and the name of its author."""

    value: bool | int | float | str
    who: Who = ""


class Rollback(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /config/rollback: the version whose values come back (0: no values), and the name of the author."""

    version: Annotated[int, Meta(ge=0, le=MAX_ID - 1)]
    who: Who = ""


class KeyView(msgspec.Struct, kw_only=True):
    """One kind of key."""

    key: str
    meaning: str


class ConfigView(Version, frozen=True, kw_only=True):
    """The live configuration, and the kinds of keys. A word in capitals stands for any name."""

    keys: list[KeyView]


_setting = msgspec.json.Decoder(Setting)
_rollback = msgspec.json.Decoder(Rollback)
KEYS = [KeyView(key=rule.key, meaning=rule.meaning) for rule in RULES]


TAG = "Live configuration"
KEY = Parameter("key", "path", str, "The key, for example queue.images.paused")
NEW_VERSION = {200: Result(Version, "The new version")}

SHOW = Operation(
    TAG, "showConfig", "Show the live configuration", {200: Result(ConfigView, "The live configuration")}, READ_PROBLEMS
)
HISTORY = Operation(
    TAG,
    "configHistory",
    "List the versions of the live configuration",
    {200: Result(list[Version], "A page, newest first", NEXT_PAGE)},
    READ_PROBLEMS,
    (
        Parameter("limit", "query", Limit, f"The size of the page; default {PAGE}"),
        Parameter("cursor", "query", Id, "Only older versions; taken from Link"),
    ),
)
SET = Operation(TAG, "setConfig", "Set one key", NEW_VERSION, BODY_PROBLEMS, (KEY,), {JSON: Setting})
UNSET = Operation(TAG, "unsetConfig", "Unset one key", NEW_VERSION, READ_PROBLEMS, (KEY, WHO))
ROLLBACK = Operation(
    TAG,
    "rollbackConfig",
    "Restore the values of an old version",
    NEW_VERSION,
    BODY_PROBLEMS,
    bodies={JSON: Rollback},
)


class ConfigResource(Resource):
    """Shows and changes the live configuration."""

    def __init__(self, editor: ConfigEditing) -> None:
        self._editor = editor

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/config", self.show, Scope.READ, SHOW),
            Route("GET", "/config/history", self.history, Scope.READ, HISTORY),
            Route("PUT", "/config/{key:path}", self.set, Scope.OPERATE, SET),
            Route("DELETE", "/config/{key:path}", self.unset, Scope.OPERATE, UNSET),
            Route("POST", "/config/rollback", self.rollback, Scope.ADMIN, ROLLBACK),
        )

    async def show(self, request: Request) -> Response:
        """GET /config."""
        request.query()
        version = await within(self._editor.latest())
        return document(ConfigView(**_fields(version), keys=KEYS))

    async def history(self, request: Request) -> Response:
        """GET /config/history: a page of versions, newest first, with a Link to the next one."""
        query = request.query("limit", "cursor")
        before, limit = number(query, "cursor", MAX_ID) or MAX_ID, number(query, "limit", PAGE) or PAGE
        page = await within(self._editor.history(before, limit))
        oldest = page[-1].version if page else 0
        # Versions are counted from 1.
        links = (next_page("/config/history", query, str(oldest)),) if oldest > 1 else ()
        return document(page, headers=links)

    async def set(self, request: Request) -> Response:
        """PUT /config/{key}: the new version."""
        setting = decode(_setting, await _body(request))
        key = _changeable(request)
        try:
            return _version(request, await self._editor.set(key, setting.value, changed_by(request, setting.who)))
        except InvalidLiveValue as error:
            raise _invalid("value", error) from None

    async def unset(self, request: Request) -> Response:
        """DELETE /config/{key}: the new version."""
        who = who_of(request)
        key = _changeable(request)
        try:
            return _version(request, await self._editor.unset(key, changed_by(request, who)))
        except InvalidLiveValue as error:
            raise _invalid("key", error) from None

    async def rollback(self, request: Request) -> Response:
        """POST /config/rollback: the new version."""
        rollback = decode(_rollback, await _body(request))
        require_all(request)
        try:
            return document(await self._editor.rollback(rollback.version, changed_by(request, rollback.who)))
        except InvalidLiveValue as error:
            raise _invalid("version", error) from None


def _version(request: Request, version: Version) -> Response:
    """Return the version after a change, without its values if the caller may not read them."""
    return document(version if request.caller.allows(Scope.READ) else msgspec.structs.replace(version, values={}))


def _changeable(request: Request) -> str:
    """Return the key in the path. Raises a 403 Problem if the caller may not change it.

    Keys that stop and start work need the scope `operate`, all others `admin`.
    """
    key = request.segment("key")
    if not request.caller.allows(Scope.ADMIN) and not operates(key):
        raise lacks_scope(request.caller, Scope.ADMIN, f", which {key!r} needs")
    if request.caller.queues is not None and not any(concerns_only(key, queue) for queue in request.caller.queues):
        raise forbidden(f"the token {request.caller.name!r} is for some queues only, and {key!r} concerns others")
    return key


async def _body(request: Request) -> bytes:
    request.query()
    body = await request.json_body(MAX_BODY, "a setting is short")
    request.note(body)
    if has_nul(body):
        raise invalid(FieldError("body", "must not contain the NUL character (\\u0000)"))
    return body


def _invalid(field: str, error: InvalidLiveValue) -> Problem:
    return invalid(FieldError(field, str(error)))


def _fields(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in Version.__struct_fields__}
