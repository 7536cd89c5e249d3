"""Clients that do not read: how long, and how many bytes of answers, they may keep waiting in memory."""

from __future__ import annotations

import asyncio

from taskd.runtime import meters

#: Bytes of answers that may wait in all for clients to read them. A scheduler's pages have limits of their own.
UNTAKEN_LIMIT = 128 * 1024 * 1024
#: Seconds in which a client must take so many bytes of an answer that waits for it.
TAKE_DEADLINE, TAKE_LEAST = 60.0, 64 * 1024


class Stall:
    """One connection whose client has not taken what was written, from `begin` to `end`.

    `others` are the stalls of the same server, in the order in which they began.
    """

    def __init__(self, transport: asyncio.Transport, others: dict[Stall, None]) -> None:
        self._transport = transport
        self._others = others
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0

    @property
    def untaken(self) -> int:
        """Bytes that wait for the client."""
        return self._transport.get_write_buffer_size()

    def begin(self) -> None:
        """Watch what waits from now on, and cut those that have stalled for longest if it is too much in all."""
        self._others[self] = None
        self._watch()
        total = sum(stall.untaken for stall in self._others)
        for stall in list(self._others)[:-1]:  # the last one stays, however large its answer is
            if total <= UNTAKEN_LIMIT:
                return
            total -= stall.untaken
            stall.cut()

    def end(self) -> None:
        """Stop to watch: it was taken, or the connection is gone. May be called again."""
        self._others.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cut(self) -> None:
        """End the connection with all that waits for it."""
        self.end()
        meters.TURNED_AWAY.labels("slow").inc()
        self._transport.abort()

    def _watch(self) -> None:
        self._seen = self.untaken
        self._timer = asyncio.get_running_loop().call_later(TAKE_DEADLINE, self._look)

    def _look(self) -> None:
        """Cut a client that took too little since the last look."""
        if self._seen - self.untaken < TAKE_LEAST:
            self.cut()
        else:
            self._watch()
