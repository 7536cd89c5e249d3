"""The resources under /config: the live configuration."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from taskd.api.answers import Answer, document
from taskd.api.bulk import MAX_ABOUT
from taskd.api.call import Call
from taskd.api.decoding import decode, number
from taskd.api.door import forbidden
from taskd.api.problems import FieldError, Problem, invalid
from taskd.api.queues import everything
from taskd.api.reading import within
from taskd.api.strictjson import check_text, has_nul
from taskd.domain.config import RULES, Version, concerns_only, operates
from taskd.domain.errors import InvalidLiveValue
from taskd.domain.job import MAX_ID, MAX_NAME
from taskd.domain.scope import Scope
from taskd.seams import ConfigEditing

MAX_BODY = 16 * 1024
PAGE = 100

Who = Annotated[str, Meta(max_length=MAX_NAME)]


class Setting(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT /config/{key}: the value, and who sets it."""

    value: bool | int | float | str
    who: Who = ""


class Rollback(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /config/rollback: the version whose values come back (0: none), and who wants it."""

    version: Annotated[int, Meta(ge=0, le=MAX_ID - 1)]
    who: Who = ""


class KeyView(msgspec.Struct, kw_only=True):
    """One kind of key that there is."""

    key: str
    meaning: str


class LiveView(Version, frozen=True, kw_only=True):
    """The live configuration, and which keys there are; a word in capitals stands for any name."""

    keys: list[KeyView]


_setting = msgspec.json.Decoder(Setting)
_rollback = msgspec.json.Decoder(Rollback)
KEYS = [KeyView(key=rule.key, meaning=rule.meaning) for rule in RULES]


class LiveConfiguration:
    """Shows and changes the live configuration."""

    def __init__(self, editor: ConfigEditing) -> None:
        self._editor = editor

    async def show(self, call: Call) -> Answer:
        """GET /config."""
        call.query()
        found = await within(self._editor.latest())
        return document(LiveView(**_fields(found), keys=KEYS))

    async def history(self, call: Call) -> Answer:
        """GET /config/history: a page of versions, newest first, and in `Link` where the next one is."""
        query = call.query("limit", "cursor")
        before, limit = number(query, "cursor", MAX_ID) or MAX_ID, number(query, "limit", PAGE) or PAGE
        page = await within(self._editor.history(before, limit))
        answer = document(page)
        if not page or page[-1].version <= 1:  # the first version there ever was
            return answer
        following = urlencode({**query, "cursor": str(page[-1].version)})
        return Answer(200, answer.body, ((b"link", f'</config/history?{following}>; rel="next"'.encode()),))

    async def set(self, call: Call) -> Answer:
        """PUT /config/{key}: the version that has it."""
        given = decode(_setting, await _body(call))
        key = _changeable(call)
        try:
            return _made(call, await self._editor.set(key, given.value, changed_by(call, given.who)))
        except InvalidLiveValue as error:
            raise _invalid("value", error) from None

    async def unset(self, call: Call) -> Answer:
        """DELETE /config/{key}: the version without it."""
        who = call.query("who").get("who", "")
        if len(who) > MAX_NAME or "\0" in who:
            raise invalid(FieldError("who", f"must be at most {MAX_NAME} characters without NUL"))
        key = _changeable(call)
        try:
            return _made(call, await self._editor.unset(key, changed_by(call, who)))
        except InvalidLiveValue as error:
            raise _invalid("key", error) from None

    async def rollback(self, call: Call) -> Answer:
        """POST /config/rollback: the version that was made."""
        given = decode(_rollback, await _body(call))
        everything(call)
        try:
            return document(await self._editor.rollback(given.version, changed_by(call, given.who)))
        except InvalidLiveValue as error:
            raise _invalid("version", error) from None


def _made(call: Call, version: Version) -> Answer:
    """The version after a change; without the values, if the caller may not read them."""
    return document(version if call.caller.allows(Scope.READ) else msgspec.structs.replace(version, values={}))


def _changeable(call: Call) -> str:
    """The key, if the caller may change it: what stops and starts work needs `operate`, everything else `admin`."""
    key = call.segment("key")
    if not call.caller.allows(Scope.ADMIN) and not operates(key):
        raise forbidden(f"the token {call.caller.name!r} has not the scope {Scope.ADMIN}, which {key!r} needs")
    if call.caller.queues is not None and not any(concerns_only(key, queue) for queue in call.caller.queues):
        raise forbidden(f"the token {call.caller.name!r} is for some queues only, and {key!r} is none of theirs")
    return key


def changed_by(call: Call, given: str) -> str:
    """Who it was: the token, which is proved, before the name, which anybody may give."""
    return " ".join(part for part in (call.caller.name, f"({given})" if given and call.caller.name else given) if part)


async def _body(call: Call) -> bytes:
    call.query()
    call.content_type(b"application/json")
    body = await call.body(MAX_BODY, "a setting is short")
    check_text(body)
    call.about = body[:MAX_ABOUT].decode("utf-8", "replace")
    if has_nul(body):
        raise invalid(FieldError("body", "must not contain the NUL character (\\u0000)"))
    return body


def _invalid(field: str, error: InvalidLiveValue) -> Problem:
    return invalid(FieldError(field, str(error)))


def _fields(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in Version.__struct_fields__}
