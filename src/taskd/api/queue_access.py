"""Access of tokens that are restricted to some queues."""

from __future__ import annotations

from taskd.api.auth import forbidden
from taskd.api.problems import FieldError, invalid
from taskd.api.request import Request


def allowed(request: Request, queue: str) -> str:
    """Return the queue. Raises a 403 Problem if the caller may not use it."""
    if not request.caller.sees(queue):
        raise forbidden(f"the token {request.caller.name!r} is not for the queue {queue!r}")
    return queue


def narrowed(request: Request, queue: str | None) -> str | None:
    """Return the queue to read: the one in the request, or the caller's only one. Raises 403 and 422 Problems."""
    if queue is not None:
        return allowed(request, queue)
    queues = request.caller.queues
    if queues is not None and len(queues) > 1:
        raise invalid(FieldError("queue", f"name one: the token is for {', '.join(sorted(queues))}"))
    return next(iter(queues)) if queues is not None else None


def require_all(request: Request) -> None:
    """Raise a 403 Problem unless the caller may use every queue."""
    if request.caller.queues is not None:
        raise forbidden(f"the token {request.caller.name!r} is for some queues only, and this concerns all")
