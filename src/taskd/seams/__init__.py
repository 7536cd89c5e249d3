"""The seams between rooms: one Protocol for each caller, so that replacing a server touches one room.

PostgreSQL implements the store's seams (`taskd.store`), Redis the Transport (`taskd.transport`), etcd the Coordinator
(`taskd.coordination`). Every method raises the matching `Unavailable` within its deadline when its server does not answer;
none retries on its own. Times are seconds.
"""

from __future__ import annotations

from taskd.domain.health import Health
from taskd.seams.coordinator import Campaign, Coordinator, Leader, Lock, Member, MemberKind, Standing
from taskd.seams.store import (
    Cancels,
    Claims,
    Closed,
    DueBatch,
    DueJobs,
    Explained,
    Fired,
    Gone,
    History,
    Intake,
    LiveEditor,
    LiveStore,
    Logs,
    Look,
    Notes,
    Overview,
    Pruned,
    Reaped,
    Retries,
    Schedules,
    Sessions,
    Settlement,
    Terms,
    Ticks,
    Tokens,
    Transcripts,
    Upkeep,
    Wakes,
)
from taskd.seams.tasks import Completion, Invocation, Link, Order, TaskConnections, TaskRegistry
from taskd.seams.transport import LeaderView, Transport

__all__ = [
    "Campaign",
    "Cancels",
    "Claims",
    "Closed",
    "Completion",
    "Coordinator",
    "DueBatch",
    "DueJobs",
    "Explained",
    "Fired",
    "Gone",
    "Health",
    "History",
    "Intake",
    "Invocation",
    "Leader",
    "LeaderView",
    "Link",
    "LiveEditor",
    "LiveStore",
    "Lock",
    "Logs",
    "Look",
    "Member",
    "MemberKind",
    "Notes",
    "Order",
    "Overview",
    "Pruned",
    "Reaped",
    "Retries",
    "Schedules",
    "Sessions",
    "Settlement",
    "Standing",
    "TaskConnections",
    "TaskRegistry",
    "Terms",
    "Ticks",
    "Tokens",
    "Transcripts",
    "Transport",
    "Upkeep",
    "Wakes",
]
