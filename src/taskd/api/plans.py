"""From JSON to a schedule, with the field in each error, and back."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from taskd.api.decoding import decode
from taskd.api.problems import FieldError, invalid
from taskd.api.render import utc
from taskd.api.strictjson import has_nul
from taskd.api.submission import accepted
from taskd.api.views import JobPlanView, ScheduleSummary, ScheduleView
from taskd.domain.job import MAX_NAME, JobSpec
from taskd.domain.schedule import CATCH_UP, MAX_CATCH_UP, Fire, Missed, Overlap, Plan, Schedule
from taskd.domain.submission import JobFields, Submission
from taskd.domain.ticks import LEAST_EVERY, MAX_CRON, MOST_EVERY, TickRule, check_cron, zone

#: Without a slash, since a name is a segment of a path.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:\-]*$"
NAME_RULE = f"is 1 to {MAX_NAME} letters, digits or any of _ . : -, with none of the last three first"
ScheduleName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, extra_json_schema={"pattern": NAME})]
#: Keys that the metadata of a fired job has from its schedule.
RESERVED_KEYS = ("schedule", "fire_at")


class SchedulePlan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT /schedules/{name}: either `cron` or `every` (seconds), and the job. `app`: the app that declares it."""

    job: JobFields
    cron: Annotated[str, Meta(min_length=1, max_length=MAX_CRON)] | None = None
    every: Annotated[float, Meta(ge=LEAST_EVERY, le=MOST_EVERY)] | None = None
    tz: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] = "UTC"
    missed: Missed = Missed.ONCE
    catch_up: Annotated[int, Meta(ge=1, le=MAX_CATCH_UP)] | None = None
    overlap: Overlap = Overlap.ALLOW
    app: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)] | None = None


class NewSchedule(SchedulePlan, kw_only=True):
    """The body of POST /schedules."""

    name: ScheduleName


_plan = msgspec.json.Decoder(SchedulePlan)
_new = msgspec.json.Decoder(NewSchedule)


def is_name(text: str) -> bool:
    """Return True if a schedule can have this name."""
    return len(text) <= MAX_NAME and re.fullmatch(NAME, text) is not None and not text.endswith("\n")


async def parse_new(body: bytes, max_payload: int) -> Plan:
    """Return the schedule in the body of POST /schedules. Raises 400, 413 and 422 Problems."""
    new = decode(_new, body)
    if not is_name(new.name):
        raise invalid(FieldError("name", NAME_RULE))
    return await _accepted(new.name, new, max_payload, nul=has_nul(body))


async def parse(name: str, body: bytes, max_payload: int) -> Plan:
    """Return the schedule in the body of PUT /schedules/{name}. Raises 400, 413 and 422 Problems."""
    return await _accepted(name, decode(_plan, body), max_payload, nul=has_nul(body))


async def _accepted(name: str, plan: SchedulePlan, max_payload: int, *, nul: bool) -> Plan:
    if plan.app is not None and "\0" in plan.app:
        raise invalid(FieldError("app", "must not contain the NUL character (\\u0000)"))
    rule = _rule(plan)
    return Plan(
        name=name,
        rule=rule,
        job=await _job(plan.job, max_payload, nul=nul),
        missed=plan.missed,
        catch_up=_catch_up(plan),
        overlap=plan.overlap,
        app=plan.app,
    )


def _rule(plan: SchedulePlan) -> TickRule:
    if (plan.cron is None) == (plan.every is None):
        raise invalid(FieldError("every" if plan.every is not None else "cron", "give either cron or every"))
    field = "tz"
    try:
        tz, field = zone(plan.tz), "cron"
        if plan.cron is not None:
            check_cron(plan.cron, tz)
    except ValueError as error:
        raise invalid(FieldError(field, str(error))) from None
    if plan.every is not None and plan.tz != "UTC":
        raise invalid(FieldError("tz", "goes with cron: an interval is the same everywhere"))
    return TickRule(cron=plan.cron, every=plan.every, tz=plan.tz)


def _catch_up(plan: SchedulePlan) -> int:
    if plan.catch_up is None:
        return CATCH_UP
    if plan.missed is not Missed.ALL:
        raise invalid(
            FieldError(
                "catch_up", f"goes with missed = all, not with {plan.missed}: set missed to all, or leave it out"
            )
        )
    return plan.catch_up


async def _job(fields: JobFields, max_payload: int, *, nul: bool) -> JobSpec:
    submission = Submission(**{field: getattr(fields, field) for field in JobFields.__struct_fields__})
    job = await accepted(submission, max_payload, "job.", nul=nul)
    if taken := [key for key in RESERVED_KEYS if key in job.metadata]:
        raise invalid(FieldError("job.metadata", f"must not have the key {taken[0]}: the schedule sets it"))
    return job


def view(schedule: Schedule, *, fires: bool = False) -> ScheduleView:
    """Return the schedule as clients see it; with `fires` its last ticks too."""
    plan, job = schedule.plan, schedule.plan.job
    return ScheduleView(
        name=plan.name,
        cron=plan.rule.cron if plan.rule.cron is not None else UNSET,
        every=plan.rule.every if plan.rule.every is not None else UNSET,
        tz=plan.rule.tz,
        job=JobPlanView(
            task=job.task,
            queue=job.queue,
            priority=job.priority,
            payload=job.payload,
            max_retries=job.max_retries,
            retry_backoff=job.retry_backoff,
            timeout=job.timeout if job.timeout is not None else UNSET,
            metadata=job.metadata or UNSET,
        ),
        missed=plan.missed,
        catch_up=plan.catch_up if plan.missed is Missed.ALL else UNSET,
        overlap=plan.overlap,
        app=plan.app if plan.app is not None else UNSET,
        next_at=_next(schedule),
        paused_at=utc(schedule.paused_at) if schedule.paused_at is not None else UNSET,
        paused_by=schedule.paused_by if schedule.paused_by is not None else UNSET,
        created_at=utc(schedule.created_at),
        changed_at=utc(schedule.changed_at),
        fires=[_fire(fire) for fire in schedule.fires] if fires else UNSET,
    )


def summary(schedule: Schedule) -> ScheduleSummary:
    """Return the schedule as clients see it that may not read its job."""
    whole = view(schedule)
    return ScheduleSummary(**{name: getattr(whole, name) for name in ScheduleSummary.__struct_fields__})


def _next(schedule: Schedule) -> datetime | None:
    """Return the next tick; None while it is paused, and where its time zone is unknown."""
    try:
        return next(schedule.coming(), None) if schedule.paused_at is None else None
    except ValueError:
        return None


def _fire(fire: Fire) -> Fire:
    return msgspec.structs.replace(fire, fire_at=utc(fire.fire_at), fired_at=utc(fire.fired_at))
