"""The store, PostgreSQL: one Protocol for each duty, in a module for each room that calls it."""

from __future__ import annotations

from taskd.seams.store.api import Cancels, Explained, Intake, LogReader, Reads, Retries, Tokens
from taskd.seams.store.config import ConfigEditor, ConfigStore
from taskd.seams.store.scheduler import DispatchBatch, Dispatching, Pruned, Pruning, Reaped, Reaping, Terms, Wakes
from taskd.seams.store.schedules import Closed, DueSchedules, Fired, Schedules, Ticks
from taskd.seams.store.worker import Claims, LogWriter, LostClaim, NoteWriter, Sessions, Settlement

__all__ = [
    "Cancels",
    "Claims",
    "Closed",
    "ConfigEditor",
    "ConfigStore",
    "DispatchBatch",
    "Dispatching",
    "DueSchedules",
    "Explained",
    "Fired",
    "Intake",
    "LogReader",
    "LogWriter",
    "LostClaim",
    "NoteWriter",
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
