"""Exceptions of tasks for their authors: in one line, and as a traceback in which the author's own code is easy to see."""

from __future__ import annotations

import os
import site
import sysconfig
import traceback
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec

#: Frames of these folders are taskd's or msgspec's, and are left out.
OURS = tuple(os.path.dirname(file) + os.sep for file in (os.path.dirname(__file__), str(msgspec.__file__)))
#: Frames of these are code that the user has not written: long runs of them are cut.
_FOLDERS = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
_LIBRARIES = ("<frozen ", *sorted(folder + os.sep for folder in _FOLDERS))
#: How many frames of a run of library frames are shown: where it was entered, and where it raised.
_FIRST, _LAST = 1, 2
#: How many parts of an exception group its one line names.
_PARTS = 3


def describe(error: BaseException) -> str:
    """Return the traceback of the user's frames and the exception, whatever the exception's own methods do.

    taskd's frames are left out, and the middle of long ways through libraries; also in causes and in groups.
    """
    try:
        shown = traceback.TracebackException.from_exception(error, lookup_lines=False, compact=True)
        _trim(shown)
        return "".join(shown.format()).rstrip()
    except Exception:  # noqa: BLE001 - an exception may lie about anything; its type is still the truth
        return _unprintable(error)


def summary(error: BaseException) -> str:
    """Return the exception in few words, as the last line of a traceback has them; of a group, also its first parts."""
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
        if isinstance(error, BaseExceptionGroup):
            parts = list(_leaves(error))
            shown = "; ".join(summary(part) for part in parts[:_PARTS])
            more = f"; and {len(parts) - _PARTS} more" if len(parts) > _PARTS else ""
            text = f"{text.splitlines()[0]}: {shown}{more}"
    except Exception:  # noqa: BLE001 - as in describe
        return _unprintable(error)
    return text


def _unprintable(error: BaseException) -> str:
    return f"{type(error).__name__} (which could not be printed)"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for part in group.exceptions:
        if isinstance(part, BaseExceptionGroup):
            yield from _leaves(part)
        else:
            yield part


class _TrimmedStack(traceback.StackSummary):
    """Frames of which long runs of library code are shown as one line."""

    def format(self, **options: Any) -> list[str]:  # newer versions of Python have options for colours
        lines: list[str] = []
        runs = [list(run) for _, run in groupby(self, key=lambda frame: frame.filename.startswith(_LIBRARIES))]
        for run in runs:
            left_out = len(run) - _FIRST - _LAST
            if left_out <= 1 or not run[0].filename.startswith(_LIBRARIES):
                lines += traceback.StackSummary.from_list(run).format(**options)
                continue
            lines += traceback.StackSummary.from_list(run[:_FIRST]).format(**options)
            lines.append(f"  ... {left_out} frames of libraries left out ...\n")
            lines += traceback.StackSummary.from_list(run[-_LAST:]).format(**options)
        return lines


def _trim(error: traceback.TracebackException) -> None:
    """Leave only the user's frames: in the exception, in its causes and in the parts of a group."""
    waiting = [error]
    while waiting:
        part = waiting.pop()
        part.stack = _TrimmedStack(frame for frame in part.stack if not frame.filename.startswith(OURS))
        waiting += [
            other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other is not None
        ]
