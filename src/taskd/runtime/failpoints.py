"""Named points in the code at which a test makes a process die, stop, wait or meet an error.

The gap between a commit and what follows it lasts a millisecond, so no killer from outside hits it. A point stands right there.
All are off unless the environment of a scheduler or worker says otherwise: `TASKD_FAILPOINT=dispatch.committed:kill`.
docs/fault-tests.md has the syntax. Executors never call `arm`, so nothing is on in them, whatever they inherit.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from taskd.domain.errors import ConfigurationError, StoreUnavailable, TransportUnavailable, Unavailable
from taskd.runtime.log import logger

VARIABLE = "TASKD_FAILPOINT"


def _postgres(point: str) -> Unavailable:
    return StoreUnavailable(f"PostgreSQL: failpoint {point}")


def _postgres_unknown(point: str) -> Unavailable:
    return StoreUnavailable(f"PostgreSQL: failpoint {point}", outcome_unknown=True)


def _redis(point: str) -> Unavailable:
    return TransportUnavailable(f"Redis: failpoint {point}")


class Point(msgspec.Struct, frozen=True):
    """One failpoint: its place in the code, in one sentence, and the error that an outage would raise there."""

    where: str
    error: Callable[[str], Unavailable]


#: Every failpoint, in the order of a job's way. `tests/unit/test_failpoints.py` holds it against the code.
POINTS = {
    "submit.stored": Point("Jobs are stored and committed; no client has been answered.", _postgres_unknown),
    "dispatch.committed": Point("Jobs are queued and committed; Redis knows nothing of it yet.", _postgres_unknown),
    "ring.sent": Point("Redis has the entries of a dispatch; its reply has no effect yet.", _redis),
    "claim.before": Point("A worker has deliveries from Redis and has not asked for their claims.", _postgres),
    "claim.done": Point("Claims are committed; their attempts have not begun.", _postgres_unknown),
    "decide.before": Point("Executors were handed the claimed attempts; their entries are not acknowledged.", _redis),
    "decide.done": Point("The entries of decided claims are gone from Redis; their attempts run already.", _redis),
    "note.before": Point(
        "Attempts have handed in checkpoints or progress; PostgreSQL has not received them.", _postgres
    ),
    "settle.before": Point("Attempts have ended; PostgreSQL has not received them.", _postgres),
    "settle.done": Point("The ends of attempts are committed; the worker has not taken note.", _postgres_unknown),
    "session.opened": Point("A worker's session is committed; the worker does not count on it yet.", _postgres_unknown),
    "term.taken": Point("A new epoch is committed; the leader's duties have not begun.", _postgres_unknown),
    "reap.ended": Point("Expired sessions are ended and committed; their jobs are not free yet.", _postgres_unknown),
    "cron.fired": Point("Jobs of due ticks are stored and committed; the bell has not rung.", _postgres_unknown),
    "reoffer.moved": Point("Lost jobs are pending again and committed; the bell has not rung.", _postgres_unknown),
}

_ACTIONS = "kill, stop, sleep=SECONDS or error"
_ORDER = re.compile(r"(?P<name>[^:]*):(?P<action>kill|stop|error|sleep=(?P<seconds>\d+(\.\d+)?))(@(?P<on>[1-9]\d*))?")


class FailpointOrder(msgspec.Struct, frozen=True):
    """The action of a point: at its passing number `on`, or at each if that is 0."""

    action: str
    seconds: float
    on: int


_orders: dict[str, list[FailpointOrder]] = {}
_passings: Counter[str] = Counter()


def arm(environ: Mapping[str, str] = os.environ) -> None:
    """Switch on the failpoints that the environment names, and log them. Raises ConfigurationError for a malformed value."""
    text = environ.get(VARIABLE, "").strip()
    orders = parse(text)
    _orders.clear()
    _passings.clear()
    _orders.update(orders)
    if orders:
        logger().warning("failpoints are on: this process fails on purpose", failpoints=text)


def parse(text: str) -> dict[str, list[FailpointOrder]]:
    """Return the orders for each point in `NAME:ACTION[@N],...`. Raises ConfigurationError."""
    orders: dict[str, list[FailpointOrder]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        found = _ORDER.fullmatch(part)
        if found is None:
            raise ConfigurationError(
                f"{VARIABLE}: {part!r} is not NAME:ACTION or NAME:ACTION@N with the action {_ACTIONS}; {_known()}"
            )
        name, action = found["name"], found["action"].partition("=")[0]
        if name not in POINTS:
            raise ConfigurationError(f"{VARIABLE}: there is no failpoint {name!r}; {_known()}")
        orders.setdefault(name, []).append(FailpointOrder(action, float(found["seconds"] or 0), int(found["on"] or 0)))
    return orders


async def passed(name: str) -> None:
    """Mark that the process passes this point. While it is off, this costs one look and no turn of the event loop.

    `sleep` lets the rest of the process go on; `stop` and `kill` do not. Raises the point's Unavailable for `error`.
    """
    if _orders:
        await _obey(name)


async def _obey(name: str) -> None:
    _passings[name] += 1
    for order in _orders.get(name, ()):
        if order.on not in (0, _passings[name]):
            continue
        logger().warning("failpoint", point=name, action=order.action, passing=_passings[name])
        match order.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                await asyncio.sleep(order.seconds)
            case _:
                raise POINTS[name].error(name)


def _known() -> str:
    return f"the failpoints are {', '.join(POINTS)}"
