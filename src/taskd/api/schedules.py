"""The resources under /schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated
from urllib.parse import quote, urlencode

from msgspec import Meta

from taskd.api import plans
from taskd.api.answers import Answer, document
from taskd.api.bulk import MAX_PAGE
from taskd.api.call import Call
from taskd.api.decoding import number
from taskd.api.documents import NextFires, Removed
from taskd.api.door import forbidden
from taskd.api.live import changed_by
from taskd.api.problems import FieldError, already, invalid, not_found, unavailable
from taskd.api.queues import allowed
from taskd.api.reading import Gate, within
from taskd.api.strictjson import check_text
from taskd.api.submission import ENVELOPE
from taskd.domain.errors import StoreUnavailable
from taskd.domain.job import MAX_NAME
from taskd.domain.schedule import Plan, Schedule
from taskd.domain.scope import Scope
from taskd.domain.ticks import zone
from taskd.seams import Schedules
from taskd.settings import HttpSettings

MAX_COUNT = 100
#: Further ahead than this, only the very next tick is looked for: to find a hundred leap days takes long.
HORIZON = timedelta(days=3660)

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]


class ScheduleResources:
    """Makes, shows, changes, pauses and removes schedules."""

    def __init__(self, schedules: Schedules, settings: HttpSettings, gate: Gate) -> None:
        self._gate = gate
        self._schedules = schedules
        self._limit = settings.max_job_bytes

    async def list(self, call: Call) -> Answer:
        """GET /schedules: a page, by name, and in `Link` where the next one is."""
        query = call.query("limit", "cursor")
        limit = number(query, "limit", MAX_PAGE) or 100
        after = query.get("cursor", "")
        if "\0" in after:
            raise invalid(FieldError("cursor", "must be taken from Link"))
        async with self._gate:
            page, more = await within(self._schedules.page(after, call.caller.queues, limit))
            answer = document([plans.view(one) for one in page])
        if not more:
            return answer
        following = urlencode({**query, "cursor": page[-1].plan.name})
        return Answer(200, answer.body, ((b"link", f'</schedules?{following}>; rel="next"'.encode()),))

    async def create(self, call: Call) -> Answer:
        """POST /schedules: 201 with the schedule; 409 if there is one of that name."""
        plan = self._allowed(call, await plans.parse_new(await self._body(call), self._limit))
        if not await self._schedules.put(plan, replace=False):
            if call.caller.queues is not None:  # it may be one of another queue, which is not told
                raise already(f"the name {plan.name!r} is taken")
            raise already(f"there is a schedule {plan.name!r}: PUT /schedules/{plan.name} replaces it")
        return await self._changed(call, plan.name, made=True)

    async def put(self, call: Call) -> Answer:
        """PUT /schedules/{name}: 201 if it is new, 200 with what it is now if not."""
        name = _name(call)
        plan = self._allowed(call, await plans.parse(name, await self._body(call), self._limit))
        made = await self._schedules.put(plan, replace=True, queues=call.caller.queues)
        # Nothing was done if it is one of another queue: then it is not found either.
        return await self._changed(call, name, made=bool(made), written=made is not None)

    async def show(self, call: Call) -> Answer:
        """GET /schedules/{name}, with its last ticks."""
        call.query()
        return document(plans.view(await self._find(call, _name(call)), fires=True))

    async def remove(self, call: Call) -> Answer:
        """DELETE /schedules/{name}: the jobs that it made stay."""
        call.query()
        name = (await self._find(call, _name(call))).plan.name
        if not await self._schedules.remove(name, call.caller.queues):
            raise not_found(f"there is no schedule {name!r}")
        return document(Removed(name=name))

    async def pause(self, call: Call) -> Answer:
        """POST /schedules/{name}/pause: nothing fires until it is resumed."""
        given = call.query("who").get("who", "")
        if len(given) > MAX_NAME or "\0" in given:
            raise invalid(FieldError("who", f"must be at most {MAX_NAME} characters without NUL"))
        name = (await self._find(call, _name(call))).plan.name
        await self._schedules.pause(name, changed_by(call, given) or "somebody", call.caller.queues)
        return await self._changed(call, name)

    async def resume(self, call: Call) -> Answer:
        """POST /schedules/{name}/resume: it goes on from now."""
        call.query()
        name = (await self._find(call, _name(call))).plan.name
        await self._schedules.resume(name, call.caller.queues)
        return await self._changed(call, name)

    async def next(self, call: Call) -> Answer:
        """GET /schedules/{name}/next: the coming ticks, in its zone."""
        count = number(call.query("count"), "count", MAX_COUNT) or 5
        found = await self._find(call, _name(call))
        rule = found.plan.rule
        wrong: str | None = rule.tz
        try:
            where, wrong = zone(rule.tz), rule.cron
            fires = [tick.astimezone(where) for tick in _coming(found, count)]
        except ValueError as error:  # it was made on a machine or by a version that knows more of them
            raise unavailable(f"{wrong!r} {error}") from None
        paused = found.paused_at is not None
        return document(NextFires(name=found.plan.name, tz=rule.tz, paused=paused, fires=fires))

    async def _body(self, call: Call) -> bytes:
        call.query()
        call.content_type(b"application/json")
        body = await call.body(self._limit + ENVELOPE, f"a payload may have {self._limit} bytes")
        check_text(body)
        return body

    def _allowed(self, call: Call, plan: Plan) -> Plan:
        """The plan, if the caller may submit its jobs: the schedule will do it for them."""
        if not call.caller.allows(Scope.SUBMIT):
            raise forbidden(f"the token {call.caller.name!r} has not the scope {Scope.SUBMIT}, which a schedule needs")
        allowed(call, plan.job.queue)
        return plan

    async def _changed(self, call: Call, name: str, *, made: bool = False, written: bool = True) -> Answer:
        """The schedule as it is after a change, as much of it as the caller may read."""
        try:
            found = await self._find(call, name)
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=written) from error  # it is changed, but cannot be shown
        view = plans.view(found, fires=True) if call.caller.allows(Scope.READ) else plans.summary(found)
        answer = document(view, 201 if made else 200)
        location = (b"location", f"/schedules/{quote(name)}".encode())
        return Answer(201, answer.body, (location,)) if made else answer

    async def _find(self, call: Call, name: str) -> Schedule:
        found = await within(self._schedules.one(name))
        if found is None or not call.caller.sees(found.plan.job.queue):
            raise not_found(f"there is no schedule {name!r}")
        return found


def _name(call: Call) -> str:
    name = call.segment("name")
    if not plans.is_name(name):
        raise not_found(f"there is no such schedule: a name {plans.NAME_RULE}")
    return name


def _coming(found: Schedule, count: int) -> list[datetime]:
    """The ticks to come. Raises ValueError."""
    end = found.now + HORIZON
    return [*islice(takewhile(lambda tick: tick < end, found.coming()), count)] or [*islice(found.coming(), 1)]
