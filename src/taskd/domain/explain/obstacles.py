"""What may stand between a job and a slot. Each check finds one thing, or nothing."""

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
    """Somebody paused the queue."""
    queue = situation.job.queue
    if not situation.live.paused(queue):
        return None
    since, by = _set_by(situation, f"queue.{queue}.paused")
    words = {"since": moment(since) if since else "a while ago", "by": by}
    return Finding(why.QUEUE_PAUSED, words, {"paused_at": since, "paused_by": by})


def unled(situation: Situation) -> Finding | None:
    """Nobody leads: what waits is not dispatched; what runs on a silent worker is not reaped."""
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
    """Somebody leads who has said nothing for longer than usual."""
    leader, row = situation.led_by, situation.leader
    if leader is None or row is None or row.age < situation.timings.leader_stale / 2:
        return None
    return Finding(why.LEADER_SILENT, {"leader": leader, "time": span(row.age)}, {"leader": leader})


def away(situation: Situation) -> Finding | None:
    """Redis is away, as the scheduler sees it that was asked."""
    redis = situation.redis
    if redis.ok:
        return None
    since = datetime.fromtimestamp(redis.since, UTC)
    return Finding(why.REDIS_AWAY, {"since": moment(since), "error": redis.detail}, {"redis_away_since": since})


def etcd_away(situation: Situation) -> Finding | None:
    """etcd is away: no reason for anything, but not all is seen."""
    if situation.etcd.ok:
        return None
    since = datetime.fromtimestamp(situation.etcd.since, UTC)
    return Finding(why.ETCD_AWAY, {"since": moment(since)}, {"etcd_away_since": since})


def nobody(situation: Situation) -> Finding | None:
    """No session that lives serves the queue."""
    queue = situation.queue
    if queue is None or queue.servers:
        return None
    last = "none has within the last hour"
    if queue.served_by is not None and queue.served_until is not None:
        last = f"{queue.served_by} did until {moment(queue.served_until)}"
    return Finding(why.NO_WORKER, {"last": last}, {"workers": []})


def quiet(situation: Situation) -> Finding | None:
    """Those who serve the queue take nothing new."""
    if situation.queue is None or not situation.queue.servers or situation.takers:
        return None
    servers = situation.queue.servers
    told = ", ".join(_refusal(situation, one) for one in servers[:NAMED])
    if len(servers) > NAMED:
        told += f", and {len(servers) - NAMED} more"
    return Finding(why.WORKERS_QUIET, {"workers": told}, {"workers": _views(situation)})


def _refusal(situation: Situation, server: ServingWorker) -> str:
    if situation.drains(server):
        return f"{server.worker_id} drains"
    since, by = _set_by(situation, f"worker.{server.worker_id}.quiet")
    return f"{server.worker_id} is quiet since {moment(since) if since else 'a while'} by {by}"


def unknown_task(situation: Situation) -> Finding | None:
    """None of those who take jobs of the queue has loaded the task; only if that is known of each."""
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
    """Others go first: the better ones in PostgreSQL and the dispatched ones; for a queued job, those before it in Redis."""
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
    """Every slot is taken."""
    takers = situation.takers
    slots = sum(one.slots for one in takers)
    if situation.queue is None or not takers or not _all_busy(situation):
        return None
    detail = {
        "workers": _views(situation),
        "slots": slots,
        "busy": sum(one.busy for one in takers),
        "longest": situation.queue.longest,
        "rate": situation.rate,
    }
    return Finding(why.SLOTS_BUSY, {"slots": slots}, detail, _when_through(situation, 0, at_least=False))


def nothing_ends(situation: Situation) -> Finding | None:
    """The slots are taken and nothing has come out of them for a while."""
    if not _all_busy(situation) or situation.rate != 0:
        return None
    return Finding(why.NOTHING_ENDS, {"window": span(situation.timings.rate_window)}, {"rate": 0.0})


def dispatching(situation: Situation) -> Finding:
    """Nothing stands in its way."""
    waited = (situation.job.now - situation.job.schedule_at).total_seconds()
    words = {"time": span(waited), "leader": situation.led_by}
    return Finding(why.DISPATCHING, words, {"leader": situation.led_by, "workers": _views(situation)})


def offered(situation: Situation) -> Finding:
    """A slot is free and the job's entry is there to be fetched."""
    detail = {"queued_at": situation.job.queued_at, "workers": _views(situation)}
    return Finding(why.OFFERED, {"time": span(_queued_for(situation))}, detail)


def delivered(situation: Situation) -> Finding | None:
    """A worker has its entry and has not claimed it."""
    place = situation.place
    if place is None or place.worker_id is None or situation.job.runs_alone:
        return None
    words = {"worker": place.worker_id, "ago": span(place.idle), "idle": span(situation.timings.claim_idle)}
    return Finding(why.DELIVERED, words, {"delivered_to": place.worker_id, "delivered_for": round(place.idle, 1)})


def stranded(situation: Situation) -> Finding | None:
    """Its entry is gone, and there is no leader to find that out."""
    return unled(situation) if _gone(situation) else None


def doorbell_lost(situation: Situation) -> Finding | None:
    """Its entry is gone, which the leader finds out after a while."""
    if not _gone(situation) or situation.led_by is None:
        return None
    at = situation.job.now + timedelta(seconds=max(1.0, situation.timings.reoffer_after * 1.5 - _queued_for(situation)))
    words = {"leader": situation.led_by, "at": moment(at)}
    detail = {"queued_at": situation.job.queued_at, "leader": situation.led_by}
    return Finding(why.DOORBELL_LOST, words, detail)


def _gone(situation: Situation) -> bool:
    """Its entry is not in Redis, though it should be by now: it goes there when the dispatch is committed."""
    return situation.place is not None and situation.place.gone and _queued_for(situation) >= ON_ITS_WAY


def _queued_for(situation: Situation) -> float:
    since = situation.job.queued_at or situation.job.now
    return (situation.job.now - since).total_seconds()


def _all_busy(situation: Situation) -> bool:
    takers = situation.takers
    return bool(takers) and sum(one.busy for one in takers) >= sum(one.slots for one in takers)


def _silent(situation: Situation) -> bool:
    job = situation.job
    return job.ended_at is not None or (job.lease is not None and job.lease < job.now)


def _set_by(situation: Situation, key: str) -> tuple[datetime | None, str]:
    version = situation.set_by.get(key)
    return (version.at if version else None), (version.who if version and version.who else "somebody")


def _when_through(situation: Situation, ahead: int, *, at_least: bool) -> Estimate | None:
    """When those who go first have slots, and this one too; None without a rate to go by."""
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
