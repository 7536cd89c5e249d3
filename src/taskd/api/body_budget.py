"""The bytes of request bodies that this process holds at once, so that many large uploads cannot take its memory.

A request reserves the length that it declares, or what has arrived of a body without one, until it is answered. Bodies of
at most `SMALL` bytes reserve nothing: large uploads never keep a cancel or a plain submit out.
"""

from __future__ import annotations

#: Bytes of request bodies that may be reserved in all, as many as of answers that wait for their clients.
MOST = 128 * 1024 * 1024
#: Bytes of a body that needs no reservation. The server holds as much of a body before anything asks for it.
SMALL = 64 * 1024


class BodyBudget:
    """The reservations of one process."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        #: Bytes that are reserved now.
        self.reserved = 0

    def grow(self, before: int, after: int) -> bool:
        """Replace a request's reservation of `before` bytes; False if there is no room, and nothing has changed.

        A request that is alone gets what it asks for: its own limit may be larger than the budget.
        """
        others = self.reserved - before
        if others and others + after > self.most:
            return False
        self.reserved = others + after
        return True

    def release(self, size: int) -> None:
        """Return a reservation of `size` bytes."""
        self.reserved -= size


#: The budget of this process.
BODIES = BodyBudget()
