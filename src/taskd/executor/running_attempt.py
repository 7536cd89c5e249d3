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
    """One attempt that has begun."""

    __slots__ = (
        "_capture",
        "_make",
        "asked",
        "entered",
        "family",
        "finished",
        "link",
        "order",
        "over",
        "seat",
        "stopping",
        "task",
        "voice",
    )

    def __init__(self, order: Order, make: Callable[[Order], WorkerLink], capture: Capture | None) -> None:
        self.order = order
        self._make = make
        self._capture = capture
        self.voice: OutputBuffer | None = None
        self.over = False
        #: What its code has started; known from its beginning.
        self.family: TaskScope | None = None
        #: When it was asked to stop, on the loop's clock.
        self.asked = 0.0
        self.link: WorkerLink | None = None
        self.task: asyncio.Task[None] | None = None
        self.seat: WorkerThread | None = None
        self.entered = False
        self.finished = False
        self.stopping = False

    @property
    def log(self) -> Any:
        """A logger whose lines name the attempt."""
        return logger().bind(job=self.order.job_id, attempt=self.order.attempt, task=self.order.task)

    def open(self) -> WorkerLink:
        """Its link to the worker, made at the first use. Raises RuntimeError in a fork."""
        forks.refuse()
        if self.link is None:
            link = self._make(self.order)
            with _opening:
                if self.link is None:
                    self.link = link
        if self.stopping:  # who stops sets this first and looks for a link then
            self.link.mark()
        return self.link

    def speak(self) -> OutputBuffer | None:
        """Its voice, made at the first use; None once it has ended."""
        if self.over or self._capture is None:
            return None
        if self.voice is None:
            voice = self._capture.voice(self.order)
            with _opening:
                if self.voice is None:
                    self.voice = voice
        return self.voice

    def close(self) -> None:
        """Its code has stopped: what it said of itself last is told now."""
        self.over = True
        self.task = None  # its context knows the attempt: a circle, which would wait for the garbage collector
        if self.link is not None:
            self.link.close()
        if self.voice is not None:
            self.voice.close()


#: Threads of a task may all be the first to use its link, or its voice. Nothing is made and nothing called while this is held:
#: that may start the garbage collector, and what that ends may want to speak as well.
_opening = threading.Lock()
