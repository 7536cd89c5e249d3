"""Every reason why a job is not running or not finished, in words. docs/explain.md shows the same tables.

What stands in braces is filled in. `FACTS` are never the reason: they stand beside it.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """One reason: the code that programs go by, its sentence, and what to do about it."""

    code: str
    sentence: str
    advice: str


NOTHING = "Nothing has to be done."

SCHEDULED = Reason(
    "scheduled",
    "It is scheduled for {at}, in {wait}.",
    "Nothing has to be done. To run it sooner: taskd cancel {id}, then taskd retry {id}, which makes a new job that is due"
    " at once.",
)
RETRY = Reason(
    "retry",
    "It is tried again at {at}, in {wait}; attempt {attempt} {ended}: {error}",
    "taskd status {id} shows the whole error; {left}. To try at once: taskd cancel {id}, then taskd retry {id}.",
)
SNOOZED = Reason(
    "snoozed",
    "Its task put it back until {at}, for another {wait}; attempt {attempt} said: {error}",
    "Nothing has to be done: this costs no retry.",
)
QUEUE_PAUSED = Reason(
    "queue_paused",
    "Queue {queue} has been paused since {since} by {by}.",
    "Let it go on: taskd config unset queue.{queue}.paused",
)
NO_LEADER = Reason(
    "no_leader",
    "No scheduler leads {shard}, since {since}: {why}.",
    "taskd status shows the schedulers; look at their logs. Until one leads, nothing of the queue is dispatched.",
)
REDIS_AWAY = Reason(
    "redis_away",
    "Redis has been away since {since}: {error}",
    "Repair Redis (taskd doctor looks at it). No job is lost, and dispatching goes on by itself.",
)
NO_WORKER = Reason(
    "no_worker",
    "No live worker serves queue {queue}; {last}.",
    "Start one: taskd worker --queues {queue} --app MODULE",
)
WORKERS_QUIET = Reason(
    "workers_quiet",
    "Every worker that serves queue {queue} takes nothing new: {workers}.",
    "Wake a quiet one (taskd worker resume ID), or start another: taskd worker --queues {queue} --app MODULE",
)
TASK_UNKNOWN = Reason(
    "task_unknown",
    "No worker that serves queue {queue} knows the task {task}.",
    "Start a worker whose app has it; until then each attempt fails. If the name is wrong, cancel the job and submit it"
    " rightly.",
)
DOORBELL_LOST = Reason(
    "doorbell_lost",
    "Its entry in Redis is gone; {leader} puts it back by {at}.",
    "Nothing has to be done. If it stays so, look at the leader's log.",
)
DELIVERED = Reason(
    "delivered",
    "It was delivered to {worker} {ago} ago, which has not claimed it yet.",
    "Nothing has to be done: what is unclaimed for {idle} goes to another worker. If it stays so, look at the worker's log.",
)
NEEDS_WORKER = Reason(
    "needs_worker",
    "It waits for a worker of its own, since {losses} workers disappeared under it: {now}.",
    "Nothing has to be done: a worker lets what it runs end first. More workers make it sooner.",
)
JOBS_AHEAD = Reason(
    "jobs_ahead",
    "{ahead} ahead of it in queue {queue}.",
    "More slots end the backlog sooner: start workers, or taskd config set worker.concurrency N. A higher priority goes"
    " first.",
)
SLOTS_BUSY = Reason(
    "slots_busy",
    "All {slots} slots of the workers that serve queue {queue} are busy.",
    "Start workers, or taskd config set worker.concurrency N; taskd cancel ID frees the slot of a job that hangs.",
)
DISPATCHING = Reason(
    "dispatching",
    "It has been due for {time}, a slot is free, and {leader} dispatches it next.",
    "Ask again. If it stays so, look at that scheduler's log.",
)
OFFERED = Reason(
    "offered",
    "It has been offered to the workers of queue {queue} for {time}, and none has taken it yet.",
    "Ask again. If it stays so, look at the workers' logs: do they reach Redis?",
)
WORKER_SILENT = Reason(
    "worker_silent",
    "Its worker {worker} is silent: its lease {ends} at {at}, and then the job runs elsewhere.",
    "Look at the worker and its host. If it comes back before its lease ends, the attempt goes on.",
)
LOCK_HELD = Reason(
    "lock_held",
    "It waits for the lock {lock}, which {holder} holds.",
    "It goes on when the lock is free; taskd cancel ID ends a holder that hangs.",
)
RUNNING = Reason(
    "running",
    "It has been running on {worker} for {time}, as attempt {attempt}.",
    "Nothing has to be done. taskd cancel {id} stops it.",
)
STOPPING = Reason(
    "stopping",
    "It was cancelled at {at}, and {worker} is still stopping its task.",
    "Nothing has to be done: a task that does not stop by itself is killed.",
)
COMPLETED = Reason("completed", "It completed at {at}, as attempt {attempt} on {worker}.", NOTHING)
FAILED = Reason(
    "failed",
    "It failed for good at {at}, {why}: {error}",
    "taskd status {id} shows the attempts. Once the cause is fixed: taskd retry {id}",
)
CANCELLED = Reason("cancelled", "It was cancelled at {at}, {when}.", "If that was a mistake: taskd retry {id}")

#: In the order of the life of a job; of several that hold, `explain` says which is the one.
REASONS = (
    *(SCHEDULED, RETRY, SNOOZED, QUEUE_PAUSED, NO_LEADER, REDIS_AWAY, NO_WORKER, WORKERS_QUIET, TASK_UNKNOWN),
    *(
        NEEDS_WORKER,
        JOBS_AHEAD,
        SLOTS_BUSY,
        DISPATCHING,
        DOORBELL_LOST,
        DELIVERED,
        OFFERED,
        WORKER_SILENT,
        LOCK_HELD,
        RUNNING,
    ),
    *(STOPPING, COMPLETED, FAILED, CANCELLED),
)

RELEASED = Reason(
    "released", "Attempt {attempt} was given back by {worker} at no cost, as happens when a worker stops.", NOTHING
)
LOST = Reason("lost", "Attempt {attempt} ended when its worker {worker} disappeared.", NOTHING)
FAILED_BEFORE = Reason(
    "failed_before", "Attempt {attempt} {ended}: {error}", "taskd status {id} shows the whole error."
)
RUNG_AGAIN = Reason("rung_again", "It was dispatched {times} without a claim: its entry in Redis was lost.", NOTHING)
ETCD_AWAY = Reason(
    "etcd_away",
    "etcd has been away since {since}: what workers know, and how fast they work, is not seen.",
    "Repair etcd (taskd doctor looks at it). Jobs run without it.",
)
LEADER_SILENT = Reason(
    "leader_silent",
    "The leader {leader} has not renewed its term for {time}.",
    "If it stays so, another scheduler takes over.",
)
NOTHING_ENDS = Reason(
    "nothing_ends",
    "No attempt of this queue has ended in the last {window}.",
    "Look at the jobs that have run longest: a time-out (--timeout) ends what hangs.",
)
PROGRESS = Reason("progress", "It says that it is at {percent} %{message}.", NOTHING)
ALONE = Reason(
    "alone",
    "It runs alone on its worker, since {losses} workers disappeared under it.",
    "Nothing has to be done. If {limit} workers disappear under it while it runs alone, it fails for good.",
)
DEADLINE = Reason("deadline", "Its time is over at {at}, in {wait}.", NOTHING)
RETRIED = Reason("retried", "It was retried as job {job}.", "taskd explain {job}")

FACTS = (
    *(
        RELEASED,
        LOST,
        FAILED_BEFORE,
        RUNG_AGAIN,
        ETCD_AWAY,
        LEADER_SILENT,
        NOTHING_ENDS,
        PROGRESS,
        ALONE,
        DEADLINE,
        RETRIED,
    ),
)
