"""Checks for a running job: its worker, its locks, its progress and its deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from taskd.domain.explain import reasons as why
from taskd.domain.explain.explanation import Finding
from taskd.domain.explain.situation import Holder, Situation
from taskd.domain.phrases import moment, span
from taskd.domain.policy import LONE_LOSS_LIMIT


def silent(situation: Situation) -> Finding | None:
    """Find a silent worker: its session is over, or half of its lease has passed without a heartbeat."""
    job = situation.job
    until = job.ended_at or job.lease
    if until is None or (job.ended_at is None and until - job.now > timedelta(seconds=situation.timings.lease / 2)):
        return None
    ends = "ran out" if until <= job.now else "runs out"
    words = {"worker": job.worker_id, "ends": ends, "at": moment(until)}
    return Finding(why.WORKER_SILENT, words, {**_claim(situation), "lease_until": until})


def locked(situation: Situation) -> Finding | None:
    """Find an attempt that waits inside `ctx.lock`, as its worker shows, with the lock's holder from etcd."""
    if situation.lock is None or situation.holder is None:
        return None
    words = {"lock": situation.lock, "holder": _named(situation.holder)}
    return Finding(why.LOCK_HELD, words, {**_claim(situation), "lock": situation.lock, "lock_holder": situation.holder})


def _named(holder: Holder) -> str:
    if holder.job_id is not None:
        return f"job {holder.job_id} (attempt {holder.attempt}, on {holder.worker_id})"
    if holder.worker_id is not None:
        return f"another job on {holder.worker_id}"
    return f"process {holder.pid} on {holder.host}"


def at_work(situation: Situation) -> Finding:
    """State that the job runs."""
    job = situation.job
    started = job.started_at or job.now
    words = {"worker": job.worker_id, "time": span((job.now - started).total_seconds()), "attempt": job.attempt}
    return Finding(why.RUNNING, words, {**_claim(situation), "lease_until": job.lease})


def progress(situation: Situation) -> Finding | None:
    """Report the progress of this attempt; that of an earlier one does not count."""
    progress = situation.job.progress
    if progress is None or progress.attempt != situation.job.attempt:
        return None
    words = {
        "percent": f"{progress.fraction * 100:.3g}",
        "message": f": {progress.message}" if progress.message else "",
    }
    return Finding(why.PROGRESS, words, {"progress": progress})


def alone(situation: Situation) -> Finding | None:
    """Find a job that shares its worker with no other."""
    job = situation.job
    if not job.runs_alone:
        return None
    return Finding(why.ALONE, {"losses": job.losses, "limit": LONE_LOSS_LIMIT}, {"losses": job.losses})


def deadline(situation: Situation) -> Finding | None:
    """Report when the job's own time-out ends the attempt. A task's time-out is known to its worker only."""
    job = situation.job
    if job.timeout is None or job.started_at is None:
        return None
    at = job.started_at + timedelta(seconds=job.timeout)
    words = {"at": moment(at), "wait": span((at - job.now).total_seconds())}
    return Finding(why.DEADLINE, words, {"deadline": at})


def _claim(situation: Situation) -> dict[str, Any]:
    job = situation.job
    return {"worker_id": job.worker_id, "attempt": job.attempt, "started_at": job.started_at}
