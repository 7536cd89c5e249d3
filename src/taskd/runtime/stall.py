"""Stalled clients: limits on the time and the bytes for which their answers may wait in memory."""

from __future__ import annotations

import asyncio
import math

from taskd.runtime import meters

#: Bytes of answers that may wait in all for clients to read them. A scheduler's pages have limits of their own.
UNTAKEN_LIMIT = 128 * 1024 * 1024
#: Seconds in which a client must take this many bytes of a waiting answer.
TAKE_DEADLINE, TAKE_LEAST = 60.0, 64 * 1024
#: Seconds of a stall before its pace is judged.
YOUNG = 0.5


class Stall:
    """One connection whose client has not taken what was written, from `begin` to `end`.

    `others` are the stalls of the same server, in the order in which they began.
    """

    def __init__(self, transport: asyncio.Transport, others: dict[Stall, None]) -> None:
        self._transport = transport
        self._others = others
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0
        self._began = self._at_first = 0.0

    @property
    def untaken(self) -> int:
        """Bytes that wait for the client."""
        return self._transport.get_write_buffer_size()

    def begin(self) -> None:
        """Begin to watch the waiting bytes. If all stalls hold too many, cut other clients, the slowest first."""
        self._began, self._at_first = asyncio.get_running_loop().time(), self.untaken
        total = self.untaken + sum(stall.untaken for stall in self._others)
        if total > UNTAKEN_LIMIT:
            for stall in sorted(self._others, key=Stall._pace):
                total -= stall.untaken
                stall.cut()
                if total <= UNTAKEN_LIMIT:
                    break
        self._others[self] = None
        self._watch()

    def end(self) -> None:
        """Stop watching: the answer was taken, or the connection is gone. May be called again."""
        self._others.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cut(self) -> None:
        """End the connection, and drop its waiting bytes."""
        self.end()
        meters.TURNED_AWAY.labels("slow").inc()
        self._transport.abort()

    def _pace(self) -> float:
        """Return the bytes a second that the client took."""
        age = asyncio.get_running_loop().time() - self._began
        return (self._at_first - self.untaken) / age if age >= YOUNG else math.inf

    def _watch(self) -> None:
        self._seen = self.untaken
        self._timer = asyncio.get_running_loop().call_later(TAKE_DEADLINE, self._look)

    def _look(self) -> None:
        """Cut a client that took too little since the last look."""
        if self._seen - self.untaken < TAKE_LEAST:
            self.cut()
        else:
            self._watch()
