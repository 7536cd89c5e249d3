"""Checks for obstacles between a waiting job and a slot. Each returns one finding, or None."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from taskd.domain.explain import reasons as why
from taskd.domain.explain.explanation import Estimate, Finding, ServerView
from taskd.domain.explain.situation import ServingWorker, Situation
from taskd.domain.job import JobStatus
from taskd.domain.phrases import are_jobs, moment, span

#: The most workers that a sentence names, and that the document shows.
NAMED, SHOWN = 3, 20
#: Seconds that an entry may take from the commit of its dispatch to Redis, before it counts as lost.
ON_ITS_WAY = 1.0


def paused(situation: Situation) -> Finding | None:
    """Find a paused queue."""
    queue = situation.job.queue
    if not situation.live.paused(queue):
        return None
    since, by = _set_by(situation, f"queue.{queue}.paused")
    words = {"since": moment(since) if since else "a while ago", "by": by}
    return Finding(why.QUEUE_PAUSED, words, {"paused_at": since, "paused_by": by})


def unled(situation: Situation) -> Finding | None:
    """Find a shard without a leader: waiting jobs are not dispatched, and those of a silent worker are not reaped."""
    job, row = situation.job, situation.leader
    if situation.led_by is not None or (job.status is JobStatus.RUNNING and not _silent(situation)):
        return None
    known = row is not None and math.isfinite(row.age)
    since = job.now - timedelta(seconds=row.age) if row is not None and known else None
    shard = "the cluster" if situation.shards == 1 else f"shard {situation.shard}"
    words = {"shard": shard, "since": moment(since) if since else "the beginning", "why": _why_unled(situation)}
    return Finding(why.NO_LEADER, words, {"shard": situation.shard, "leader_renewed_at": since})


def _why_unled(situation: Situation) -> str:
    stale = span(situation.timings.leader_stale)
    if not situation.etcd.ok:
        return f"etcd is away, and without it the next one waits until the last term is {stale} old"
    if not situation.line:
        return "no scheduler stands for election"
    first = situation.line[0]
    if situation.leader is not None and first == situation.leader.instance_id:
        return f"{first} is elected in etcd but does not renew its term in PostgreSQL"
    return f"{first} is elected in etcd and has not begun its term in PostgreSQL"


def silent_leader(situation: Situation) -> Finding | None:
    """Find a leader that has not renewed its term for longer than usual."""
    leader, row = situation.led_by, situation.leader
    if leader is None or row is None or row.age < situation.timings.leader_stale / 2:
        return None
    return Finding(why.LEADER_SILENT, {"leader": leader, "time": span(row.age)}, {"leader": leader})


def away(situation: Situation) -> Finding | None:
    """Find Redis away, as the answering scheduler sees it."""
    redis = situation.redis
    if redis.ok:
        return None
    since = datetime.fromtimestamp(redis.since, UTC)
    return Finding(why.REDIS_AWAY, {"since": moment(since), "error": redis.detail}, {"redis_away_since": since})


def etcd_away(situation: Situation) -> Finding | None:
    """Find etcd away: no reason to wait, but some facts are unknown then."""
    if situation.etcd.ok:
        return None
    since = datetime.fromtimestamp(situation.etcd.since, UTC)
    return Finding(why.ETCD_AWAY, {"since": moment(since)}, {"etcd_away_since": since})


def no_worker(situation: Situation) -> Finding | None:
    """Find a queue that no live session serves."""
    queue = situation.queue
    if queue is None or queue.servers:
        return None
    last = "none has within the last hour"
    if queue.served_by is not None and queue.served_until is not None:
        last = f"{queue.served_by} did until {moment(queue.served_until)}"
    return Finding(why.NO_WORKER, {"last": last}, {"workers": []})


def quiet(situation: Situation) -> Finding | None:
    """Find that all workers that serve the queue take no new jobs."""
    if situation.queue is None or not situation.queue.servers or situation.takers:
        return None
    servers = situation.queue.servers
    workers = ", ".join(_refusal(situation, one) for one in servers[:NAMED])
    if len(servers) > NAMED:
        workers += f", and {len(servers) - NAMED} more"
    return Finding(why.WORKERS_QUIET, {"workers": workers}, {"workers": _views(situation)})


def _refusal(situation: Situation, server: ServingWorker) -> str:
    if situation.drains(server):
        return f"{server.worker_id} drains"
    since, by = _set_by(situation, f"worker.{server.worker_id}.quiet")
    return f"{server.worker_id} is quiet since {moment(since) if since else 'a while'} by {by}"


def unknown_task(situation: Situation) -> Finding | None:
    """Find that no worker that takes jobs of the queue has loaded the task; only if that is known of each worker."""
    takers = situation.takers
    if not takers or any(_knows(situation, one) is not False for one in takers):
        return None
    return Finding(why.TASK_UNKNOWN, {}, {"workers": _views(situation)})


def _knows(situation: Situation, server: ServingWorker) -> bool | None:
    found = situation.seen.get(server.session)
    return situation.job.task in found.tasks if found is not None and situation.etcd.ok else None


def needs_worker(situation: Situation) -> Finding | None:
    """Find a job that only runs alone, and waits for a worker that has nothing else to run."""
    job = situation.job
    if not job.runs_alone:
        return None
    detail: dict[str, Any] = {"losses": job.losses, "workers": _views(situation)}
    now, place = "none is free of other jobs", situation.place
    if place is not None and place.worker_id is not None:
        now = f"{place.worker_id} lets its other jobs end first"
        detail |= {"delivered_to": place.worker_id, "delivered_for": round(place.idle, 1)}
    return Finding(why.NEEDS_WORKER, {"losses": job.losses, "now": now}, detail)


def line(situation: Situation) -> Finding | None:
    """Find jobs that go first: better and dispatched ones in PostgreSQL; for a queued job, those before it in Redis."""
    job, queue = situation.job, situation.queue
    if queue is None:
        return None
    if job.status is JobStatus.QUEUED:
        ahead, at_least = situation.place.ahead if situation.place else 0, False
    else:
        ahead = queue.ahead + queue.rung
        at_least = max(queue.ahead, queue.rung) >= queue.bound
    if not ahead:
        return None
    detail: dict[str, Any] = {"ahead": ahead, "ahead_at_least": at_least}
    if job.status is JobStatus.PENDING:
        detail["effective_priority"] = job.effective(situation.timings.ageing)
    words = {"ahead": are_jobs(ahead, at_least=at_least)}
    return Finding(why.JOBS_AHEAD, words, detail, _when_through(situation, ahead, at_least=at_least))


def busy(situation: Situation) -> Finding | None:
    """Find every slot taken."""
    takers = situation.takers
    slots = sum(worker.slots for worker in takers)
    if situation.queue is None or not takers or not _all_busy(situation):
        return None
    detail = {
        "workers": _views(situation),
        "slots": slots,
        "busy": sum(worker.busy for worker in takers),
        "longest": situation.queue.longest,
        "rate": situation.rate,
    }
    return Finding(why.SLOTS_BUSY, {"slots": slots}, detail, _when_through(situation, 0, at_least=False))


def nothing_ends(situation: Situation) -> Finding | None:
    """Find that all slots are taken and no attempt has ended for a while."""
    if not _all_busy(situation) or situation.rate != 0:
        return None
    return Finding(why.NOTHING_ENDS, {"window": span(situation.timings.rate_window)}, {"rate": 0.0})


def dispatching(situation: Situation) -> Finding:
    """State that there is no obstacle: the leader dispatches the job next."""
    waited = (situation.job.now - situation.job.schedule_at).total_seconds()
    words = {"time": span(waited), "leader": situation.led_by}
    return Finding(why.DISPATCHING, words, {"leader": situation.led_by, "workers": _views(situation)})


def offered(situation: Situation) -> Finding:
    """State that a slot is free and the job's entry waits in Redis."""
    detail = {"queued_at": situation.job.queued_at, "workers": _views(situation)}
    return Finding(why.OFFERED, {"time": span(_queued_for(situation))}, detail)


def delivered(situation: Situation) -> Finding | None:
    """Find a worker that holds the job's entry and has not claimed it."""
    place = situation.place
    if place is None or place.worker_id is None or situation.job.runs_alone:
        return None
    words = {"worker": place.worker_id, "ago": span(place.idle), "idle": span(situation.timings.claim_idle)}
    return Finding(why.DELIVERED, words, {"delivered_to": place.worker_id, "delivered_for": round(place.idle, 1)})


def stranded(situation: Situation) -> Finding | None:
    """Find that the job's entry is gone, and no leader is there to notice it."""
    return unled(situation) if _gone(situation) else None


def doorbell_lost(situation: Situation) -> Finding | None:
    """Find that the job's entry is gone, which the leader notices after a while."""
    if not _gone(situation) or situation.led_by is None:
        return None
    at = situation.job.now + timedelta(seconds=max(1.0, situation.timings.reoffer_after * 1.5 - _queued_for(situation)))
    words = {"leader": situation.led_by, "at": moment(at)}
    detail = {"queued_at": situation.job.queued_at, "leader": situation.led_by}
    return Finding(why.DOORBELL_LOST, words, detail)


def _gone(situation: Situation) -> bool:
    """Return True if the entry is not in Redis, although it should be: it is added once the dispatch is committed."""
    return situation.place is not None and situation.place.gone and _queued_for(situation) >= ON_ITS_WAY


def _queued_for(situation: Situation) -> float:
    since = situation.job.queued_at or situation.job.now
    return (situation.job.now - since).total_seconds()


def _all_busy(situation: Situation) -> bool:
    takers = situation.takers
    return bool(takers) and sum(worker.busy for worker in takers) >= sum(worker.slots for worker in takers)


def _silent(situation: Situation) -> bool:
    job = situation.job
    return job.ended_at is not None or (job.lease is not None and job.lease < job.now)


def _set_by(situation: Situation, key: str) -> tuple[datetime | None, str]:
    version = situation.set_by.get(key)
    return (version.at if version else None), (version.who if version and version.who else "an unknown client")


def _when_through(situation: Situation, ahead: int, *, at_least: bool) -> Estimate | None:
    """Estimate when the jobs ahead and this one have slots; None if the rate is not known."""
    rate = situation.rate
    if not rate:
        return None
    turns = ahead + _all_busy(situation)
    window = span(situation.timings.rate_window)
    basis = (
        f"attempts of queue {situation.job.queue} ended at {rate:.3g} a second over the last {window}; what comes later and"
        " goes first is not counted"
    )
    return Estimate(round(turns / rate, 1), basis, at_least)


def _views(situation: Situation) -> list[ServerView]:
    servers = situation.queue.servers if situation.queue else []
    return [
        ServerView(
            id=one.worker_id,
            slots=one.slots,
            busy=one.busy,
            quiet=situation.live.quiet(one.worker_id),
            draining=situation.drains(one),
            knows_task=_knows(situation, one),
        )
        for one in servers[:SHOWN]
    ]
