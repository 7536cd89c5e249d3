"""The resources under /schedules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta

from taskd.api import plans
from taskd.api.auth import lacks_scope
from taskd.api.parameters import DEFAULT_PAGE, LIMIT, MAX_PAGE, NEXT_PAGE, WHO, changed_by, number, who_of
from taskd.api.plans import NewSchedule, ScheduleName, SchedulePlan
from taskd.api.problems import FieldError, already, invalid, not_found, unavailable
from taskd.api.queue_access import allowed
from taskd.api.reads import ReadLimiter, within
from taskd.api.request import Request
from taskd.api.responses import Response, document, location, next_page
from taskd.api.routes import BODY_PROBLEMS, JSON, READ_PROBLEMS, Operation, Parameter, Resource, Result, Route
from taskd.api.submission import ENVELOPE
from taskd.api.views import NextFires, Removed, ScheduleView
from taskd.domain.errors import StoreUnavailable
from taskd.domain.schedule import Plan, Schedule
from taskd.domain.scope import Scope
from taskd.domain.ticks import zone
from taskd.seams import Schedules
from taskd.settings import HttpSettings

MAX_COUNT, DEFAULT_COUNT = 100, 5
#: Beyond this, only the very next tick is computed: to find a hundred leap days takes long.
HORIZON = timedelta(days=3660)

Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]

TAG = "Schedules"
NAME = Parameter("name", "path", ScheduleName, "The schedule's name")
LOCATION = {"Location": "The schedule's path"}
#: The restriction of a response to a token that may change a schedule and not read it.
ONLY_TIMES = "; without the scope `read` only its name and times"

LIST = Operation(
    TAG,
    "listSchedules",
    "List schedules, by name",
    {200: Result(list[ScheduleView], "A page of schedules", NEXT_PAGE)},
    READ_PROBLEMS,
    (LIMIT, Parameter("cursor", "query", str, "Only later names; taken from Link")),
)
CREATE = Operation(
    TAG,
    "createSchedule",
    "Make a schedule (needs the scope `submit` too)",
    {201: Result(ScheduleView, f"The new schedule{ONLY_TIMES}", LOCATION)},
    (409, *BODY_PROBLEMS),
    bodies={JSON: NewSchedule},
)
SHOW = Operation(
    TAG,
    "showSchedule",
    "Show a schedule with its last ticks",
    {200: Result(ScheduleView, "The schedule")},
    (404, *READ_PROBLEMS),
    (NAME,),
)
PUT = Operation(
    TAG,
    "putSchedule",
    "Make or replace a schedule (needs the scope `submit` too)",
    {
        200: Result(ScheduleView, f"The schedule, replaced{ONLY_TIMES}"),
        201: Result(ScheduleView, f"The new schedule{ONLY_TIMES}", LOCATION),
    },
    (404, *BODY_PROBLEMS),
    (NAME,),
    {JSON: SchedulePlan},
)
REMOVE = Operation(
    TAG,
    "removeSchedule",
    "Remove a schedule; the jobs that it made stay",
    {200: Result(Removed, "The schedule is removed")},
    (404, *READ_PROBLEMS),
    (NAME,),
)
NEXT = Operation(
    TAG,
    "nextFires",
    "Show the coming ticks of a schedule, in its zone",
    {200: Result(NextFires, "The next tick, and those within ten years up to `count`")},
    (404, *READ_PROBLEMS),
    (NAME, Parameter("count", "query", Count, f"The most ticks; default {DEFAULT_COUNT}")),
)
PAUSE = Operation(
    TAG,
    "pauseSchedule",
    "Pause a schedule",
    {200: Result(ScheduleView, f"The schedule, paused{ONLY_TIMES}")},
    (404, *READ_PROBLEMS),
    (NAME, WHO),
)
RESUME = Operation(
    TAG,
    "resumeSchedule",
    "Resume a schedule from now on",
    {200: Result(ScheduleView, f"The schedule, resumed{ONLY_TIMES}")},
    (404, *READ_PROBLEMS),
    (NAME,),
)


class SchedulesResource(Resource):
    """Makes, shows, changes, pauses and removes schedules."""

    def __init__(self, schedules: Schedules, settings: HttpSettings, limiter: ReadLimiter) -> None:
        self._limiter = limiter
        self._schedules = schedules
        self._limit = settings.max_job_bytes

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/schedules", self.list, Scope.READ, LIST),
            Route("POST", "/schedules", self.create, Scope.OPERATE, CREATE),
            Route("GET", "/schedules/{name}", self.show, Scope.READ, SHOW),
            Route("PUT", "/schedules/{name}", self.put, Scope.OPERATE, PUT),
            Route("DELETE", "/schedules/{name}", self.remove, Scope.OPERATE, REMOVE),
            Route("GET", "/schedules/{name}/next", self.next, Scope.READ, NEXT),
            Route("POST", "/schedules/{name}/pause", self.pause, Scope.OPERATE, PAUSE),
            Route("POST", "/schedules/{name}/resume", self.resume, Scope.OPERATE, RESUME),
        )

    async def list(self, request: Request) -> Response:
        """GET /schedules: a page, by name, with a Link to the next one."""
        query = request.query("limit", "cursor")
        limit = number(query, "limit", MAX_PAGE) or DEFAULT_PAGE
        after = query.get("cursor", "")
        if "\0" in after:
            raise invalid(FieldError("cursor", "must be taken from Link"))
        async with self._limiter:
            page, more = await within(self._schedules.page(after, request.caller.queues, limit))
            links = (next_page("/schedules", query, page[-1].plan.name),) if more else ()
            return document([plans.view(schedule) for schedule in page], headers=links)

    async def create(self, request: Request) -> Response:
        """POST /schedules: 201 with the schedule; 409 if the name is taken."""
        plan = self._allowed(request, await plans.parse_new(await self._body(request), self._limit))
        if not await self._schedules.put(plan, replace=False):
            if request.caller.queues is not None:  # a schedule of another queue is not disclosed
                raise already(f"the name {plan.name!r} is taken")
            raise already(f"there is a schedule {plan.name!r}: PUT /schedules/{plan.name} replaces it")
        return await self._changed(request, plan.name, made=True)

    async def put(self, request: Request) -> Response:
        """PUT /schedules/{name}: 201 if the schedule is new, 200 if it was replaced."""
        name = _name(request)
        plan = self._allowed(request, await plans.parse(name, await self._body(request), self._limit))
        made = await self._schedules.put(plan, replace=True, queues=request.caller.queues)
        # The schedule of another queue was not replaced (None): it is not found either.
        return await self._changed(request, name, made=bool(made), written=made is not None)

    async def show(self, request: Request) -> Response:
        """GET /schedules/{name}: the schedule with its last ticks."""
        request.query()
        return document(plans.view(await self._find(request, _name(request)), fires=True))

    async def remove(self, request: Request) -> Response:
        """DELETE /schedules/{name}: the jobs that it made stay."""
        request.query()
        name = (await self._find(request, _name(request))).plan.name
        if not await self._schedules.remove(name, request.caller.queues):
            raise not_found(f"there is no schedule {name!r}")
        return document(Removed(name=name))

    async def pause(self, request: Request) -> Response:
        """POST /schedules/{name}/pause: the schedule does not fire until it is resumed."""
        who = who_of(request)
        name = (await self._find(request, _name(request))).plan.name
        await self._schedules.pause(name, changed_by(request, who) or "an unknown client", request.caller.queues)
        return await self._changed(request, name)

    async def resume(self, request: Request) -> Response:
        """POST /schedules/{name}/resume: the schedule fires again, from now on."""
        request.query()
        name = (await self._find(request, _name(request))).plan.name
        await self._schedules.resume(name, request.caller.queues)
        return await self._changed(request, name)

    async def next(self, request: Request) -> Response:
        """GET /schedules/{name}/next: the coming ticks, in the schedule's zone."""
        count = number(request.query("count"), "count", MAX_COUNT) or DEFAULT_COUNT
        schedule = await self._find(request, _name(request))
        rule = schedule.plan.rule
        unknown: str | None = rule.tz
        try:
            tz, unknown = zone(rule.tz), rule.cron
            fires = [tick.astimezone(tz) for tick in _coming(schedule, count)]
        except ValueError as error:  # made on a machine or by a version that knows more zones or cron expressions
            raise unavailable(f"{unknown!r} {error}") from None
        paused = schedule.paused_at is not None
        return document(NextFires(name=schedule.plan.name, tz=rule.tz, paused=paused, fires=fires))

    async def _body(self, request: Request) -> bytes:
        request.query()
        return await request.json_body(self._limit + ENVELOPE, f"a payload may have {self._limit} bytes")

    def _allowed(self, request: Request, plan: Plan) -> Plan:
        """Return the plan. Raises a 403 Problem if the caller may not submit its jobs, as the schedule will for the caller."""
        if not request.caller.allows(Scope.SUBMIT):
            raise lacks_scope(request.caller, Scope.SUBMIT, ", which a schedule needs")
        allowed(request, plan.job.queue)
        return plan

    async def _changed(self, request: Request, name: str, *, made: bool = False, written: bool = True) -> Response:
        """Return the schedule after a change, with the fields that the caller may read."""
        try:
            schedule = await self._find(request, name)
        except StoreUnavailable as error:
            raise error.with_outcome(unknown=written) from error  # it is changed, but cannot be shown
        view = plans.view(schedule, fires=True) if request.caller.allows(Scope.READ) else plans.summary(schedule)
        return document(view, 201, (location(f"/schedules/{quote(name)}"),)) if made else document(view)

    async def _find(self, request: Request, name: str) -> Schedule:
        schedule = await within(self._schedules.one(name))
        if schedule is None or not request.caller.sees(schedule.plan.job.queue):
            raise not_found(f"there is no schedule {name!r}")
        return schedule


def _name(request: Request) -> str:
    name = request.segment("name")
    if not plans.is_name(name):
        raise not_found(f"there is no such schedule: a name {plans.NAME_RULE}")
    return name


def _coming(schedule: Schedule, count: int) -> list[datetime]:
    """Return the coming ticks. Raises ValueError."""
    end = schedule.now + HORIZON
    return [*islice(takewhile(lambda tick: tick < end, schedule.coming()), count)] or [*islice(schedule.coming(), 1)]
