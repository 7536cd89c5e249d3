"""The seams between rooms: one Protocol for each duty, so that replacing a server touches one room.

PostgreSQL implements the store's Protocols (`taskd.store`), Redis the Transport (`taskd.transport`), etcd the Coordinator
(`taskd.coordination`). Every method raises the matching `Unavailable` within its deadline when its server does not answer.
None retries on its own. Times are seconds.
"""

from __future__ import annotations

from taskd.domain.health import Health
from taskd.seams.coordinator import Campaign, Coordinator, Leader, Lock, Member, MemberKind, Standing
from taskd.seams.store import (
    Cancels,
    Claims,
    Closed,
    ConfigEditing,
    ConfigStore,
    DispatchBatch,
    Dispatching,
    DueSchedules,
    Explained,
    Fired,
    Intake,
    LogReader,
    LogStore,
    LostClaim,
    NoteStore,
    Pruned,
    Pruning,
    Reads,
    Reaped,
    Reaping,
    Retries,
    Schedules,
    Sessions,
    Settlement,
    Terms,
    Ticks,
    Tokens,
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
    "ConfigEditing",
    "ConfigStore",
    "Coordinator",
    "DispatchBatch",
    "Dispatching",
    "DueSchedules",
    "Explained",
    "Fired",
    "Health",
    "Intake",
    "Invocation",
    "Leader",
    "LeaderView",
    "Link",
    "Lock",
    "LogReader",
    "LogStore",
    "LostClaim",
    "Member",
    "MemberKind",
    "NoteStore",
    "Order",
    "Pruned",
    "Pruning",
    "Reads",
    "Reaped",
    "Reaping",
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
    "Transport",
    "Wakes",
]
