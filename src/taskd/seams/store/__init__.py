"""The store, PostgreSQL: one Protocol for each duty, in a module for each room that calls it."""

from __future__ import annotations

from taskd.seams.store.api import Cancels, Explained, Intake, LogReader, Reads, Retries, Tokens
from taskd.seams.store.config import ConfigEditing, ConfigStore
from taskd.seams.store.scheduler import DispatchBatch, Dispatching, Pruned, Pruning, Reaped, Reaping, Terms, Wakes
from taskd.seams.store.schedules import Closed, DueSchedules, Fired, Schedules, Ticks
from taskd.seams.store.worker import Claims, LogStore, LostClaim, NoteStore, Sessions, Settlement

__all__ = [
    "Cancels",
    "Claims",
    "Closed",
    "ConfigEditing",
    "ConfigStore",
    "DispatchBatch",
    "Dispatching",
    "DueSchedules",
    "Explained",
    "Fired",
    "Intake",
    "LogReader",
    "LogStore",
    "LostClaim",
    "NoteStore",
    "Pruned",
    "Pruning",
    "Reads",
    "Reaped",
    "Reaping",
    "Retries",
    "Schedules",
    "Sessions",
    "Settlement",
    "Terms",
    "Ticks",
    "Tokens",
    "Wakes",
]
