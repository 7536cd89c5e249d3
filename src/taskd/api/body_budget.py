"""The bytes of request bodies that this process holds at once, so that many large uploads cannot take its memory.

A request reserves the length that it declares, or the bytes that have arrived if it declares none, until its handler is done.
Bodies of at most `SMALL` bytes reserve nothing, so that large uploads never keep a cancel or a plain submit out.
"""

from __future__ import annotations

#: The most bytes that all requests may reserve together; responses that wait for their clients have the same limit.
MOST = 128 * 1024 * 1024
#: The most bytes of a body that needs no reservation. The server buffers as much of a body before a handler reads it.
SMALL = 64 * 1024


class BodyBudget:
    """The reservations of one process."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        #: Bytes that are reserved now.
        self.reserved = 0

    def grow(self, before: int, after: int) -> bool:
        """Replace a request's reservation of `before` bytes. Return False, and change nothing, if there is no room.

        A request without others may exceed the budget, since its own limit may be larger.
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
