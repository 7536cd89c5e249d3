"""One attempt that has begun in an executor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from taskd.executor.capture import Capture, OutputBuffer
from taskd.executor.link import WorkerLink
from taskd.executor.task_scope import TaskScope
from taskd.executor.threads import WorkerThread
from taskd.runtime import forks
from taskd.runtime.log import logger
from taskd.seams import Order


class RunningAttempt:
    """One attempt that has begun: its order, its code, and the parts that are made when it first uses them."""

    __slots__ = (
        "_capture",
        "_make_link",
        "buffer",
        "entered",
        "finished",
        "link",
        "order",
        "over",
        "scope",
        "stop_asked_at",
        "stopping",
        "task",
        "thread",
    )

    def __init__(self, order: Order, make_link: Callable[[Order], WorkerLink], capture: Capture | None) -> None:
        self.order = order
        self._make_link = make_link
        self._capture = capture
        self.buffer: OutputBuffer | None = None
        #: True once its output is not kept any more.
        self.over = False
        #: All that its code has started; set when it begins.
        self.scope: TaskScope | None = None
        #: When it was asked to stop, on the loop's clock.
        self.stop_asked_at = 0.0
        self.link: WorkerLink | None = None
        #: Of an async task: its asyncio task.
        self.task: asyncio.Task[None] | None = None
        #: Of a plain task: its thread.
        self.thread: WorkerThread | None = None
        #: True once its coroutine runs.
        self.entered = False
        #: True once a plain function has ended without being asked to stop.
        self.finished = False
        self.stopping = False

    @property
    def log(self) -> Any:
        """A logger whose lines name the attempt."""
        return logger().bind(job=self.order.job_id, attempt=self.order.attempt, task=self.order.job.task)

    def open_link(self) -> WorkerLink:
        """Return its link to the worker, made at the first use. Raises RuntimeError in a fork."""
        forks.refuse()
        if self.link is None:
            link = self._make_link(self.order)
            with _opening:
                if self.link is None:
                    self.link = link
        if self.stopping:  # a stop sets this first and looks for a link then
            self.link.mark_cancelled()
        return self.link

    def open_buffer(self) -> OutputBuffer | None:
        """Return the buffer of its output, made at the first use; None once it has ended."""
        if self.over or self._capture is None:
            return None
        if self.buffer is None:
            buffer = self._capture.buffer(self.order)
            with _opening:
                if self.buffer is None:
                    self.buffer = buffer
        return self.buffer

    def close(self) -> None:
        """Close its link and its buffer: its code has stopped."""
        self.over = True
        self.task = None  # its context knows the attempt: a circle, which would wait for the garbage collector
        if self.link is not None:
            self.link.close()
        if self.buffer is not None:
            self.buffer.close()


#: Several threads of a task may be the first to use its link, or its buffer. While this is held, nothing is made and nothing is
#: called: that may start the garbage collector, and a finalizer may print as well.
_opening = threading.Lock()
