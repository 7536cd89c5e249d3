"""From JSON to a schedule, each refusal naming its field, and back."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from taskd.api.decoding import decode
from taskd.api.documents import JobPlanView, ScheduleSummary, ScheduleView
from taskd.api.problems import FieldError, invalid
from taskd.api.render import utc
from taskd.api.strictjson import has_nul
from taskd.api.submission import accepted
from taskd.domain.job import MAX_NAME, JobSpec
from taskd.domain.schedule import CATCH_UP, MAX_CATCH_UP, Fire, Missed, Overlap, Plan, Schedule
from taskd.domain.submission import JobFields, Submission
from taskd.domain.ticks import LEAST_EVERY, MAX_CRON, MOST_EVERY, TickRule, check_cron, zone

#: No slash, since a name is a part of a path.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:\-]*$"
NAME_RULE = f"is 1 to {MAX_NAME} letters, digits or any of _ . : -, with none of the last three first"
ScheduleName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, extra_json_schema={"pattern": NAME})]
#: What a fired job's metadata says about its schedule.
OURS = ("schedule", "fire_at")


class SchedulePlan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of PUT /schedules/{name}: either `cron` or `every` (seconds), and the job. `app`: whose declaration it is."""

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
    """Whether a schedule can have this name."""
    return len(text) <= MAX_NAME and re.fullmatch(NAME, text) is not None and not text.endswith("\n")


async def parse_new(body: bytes, max_payload: int) -> Plan:
    """The schedule that the body of POST /schedules asks for. Raises 400, 413 and 422 Problems."""
    given = decode(_new, body)
    if not is_name(given.name):
        raise invalid(FieldError("name", NAME_RULE))
    return await _accepted(given.name, given, max_payload, nul=has_nul(body))


async def parse(name: str, body: bytes, max_payload: int) -> Plan:
    """The schedule that the body of PUT /schedules/{name} asks for. Raises 400, 413 and 422 Problems."""
    return await _accepted(name, decode(_plan, body), max_payload, nul=has_nul(body))


async def _accepted(name: str, given: SchedulePlan, max_payload: int, *, nul: bool) -> Plan:
    if given.app is not None and "\0" in given.app:
        raise invalid(FieldError("app", "must not contain the NUL character (\\u0000)"))
    rule = _rule(given)
    return Plan(
        name=name,
        rule=rule,
        job=await _job(given.job, max_payload, nul=nul),
        missed=given.missed,
        catch_up=_catch_up(given),
        overlap=given.overlap,
        app=given.app,
    )


def _rule(given: SchedulePlan) -> TickRule:
    if (given.cron is None) == (given.every is None):
        raise invalid(FieldError("every" if given.every is not None else "cron", "give either cron or every"))
    field = "tz"
    try:
        where, field = zone(given.tz), "cron"
        if given.cron is not None:
            check_cron(given.cron, where)
    except ValueError as error:
        raise invalid(FieldError(field, str(error))) from None
    if given.every is not None and given.tz != "UTC":
        raise invalid(FieldError("tz", "goes with cron: an interval is the same everywhere"))
    return TickRule(cron=given.cron, every=given.every, tz=given.tz)


def _catch_up(given: SchedulePlan) -> int:
    if given.catch_up is None:
        return CATCH_UP
    if given.missed is not Missed.ALL:
        raise invalid(
            FieldError(
                "catch_up", f"goes with missed = all, not with {given.missed}: set missed to all, or leave it out"
            )
        )
    return given.catch_up


async def _job(given: JobFields, max_payload: int, *, nul: bool) -> JobSpec:
    submission = Submission(**{field: getattr(given, field) for field in JobFields.__struct_fields__})
    job = await accepted(submission, max_payload, "job.", nul=nul)
    if taken := [key for key in OURS if key in job.metadata]:
        raise invalid(FieldError("job.metadata", f"must not have the key {taken[0]}: the schedule sets it"))
    return job


def view(found: Schedule, *, fires: bool = False) -> ScheduleView:
    """The schedule as clients see it; its last ticks too, if wanted."""
    plan, job = found.plan, found.plan.job
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
        next_at=_next(found),
        paused_at=utc(found.paused_at) if found.paused_at is not None else UNSET,
        paused_by=found.paused_by if found.paused_by is not None else UNSET,
        created_at=utc(found.created_at),
        changed_at=utc(found.changed_at),
        fires=[_fire(fire) for fire in found.fires] if fires else UNSET,
    )


def summary(found: Schedule) -> ScheduleSummary:
    """The schedule as clients see it that may not read its job."""
    whole = view(found)
    return ScheduleSummary(**{name: getattr(whole, name) for name in ScheduleSummary.__struct_fields__})


def _next(found: Schedule) -> datetime | None:
    """The next tick; None while it is paused, and where its time zone is not known."""
    try:
        return next(found.coming(), None) if found.paused_at is None else None
    except ValueError:
        return None


def _fire(fire: Fire) -> Fire:
    return msgspec.structs.replace(fire, fire_at=utc(fire.fire_at), fired_at=utc(fire.fired_at))
