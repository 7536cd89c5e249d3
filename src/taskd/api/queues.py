"""What a caller whose token is for some queues only may ask for."""

from __future__ import annotations

from taskd.api.call import Call
from taskd.api.door import forbidden
from taskd.api.problems import FieldError, invalid


def allowed(call: Call, queue: str) -> str:
    """The queue, if the caller may deal with it. Raises a 403 Problem."""
    if not call.caller.sees(queue):
        raise forbidden(f"the token {call.caller.name!r} is not for the queue {queue!r}")
    return queue


def narrowed(call: Call, queue: str | None) -> str | None:
    """The queue to look at: the one that is asked for, or the caller's only one. Raises 403 and 422 Problems."""
    if queue is not None:
        return allowed(call, queue)
    own = call.caller.queues
    if own is not None and len(own) > 1:
        raise invalid(FieldError("queue", f"say which one: the token is for {', '.join(sorted(own))}"))
    return next(iter(own)) if own is not None else None


def everything(call: Call) -> None:
    """Raise a 403 Problem unless the caller may deal with every queue."""
    if call.caller.queues is not None:
        raise forbidden(f"the token {call.caller.name!r} is for some queues only, and this concerns all")
