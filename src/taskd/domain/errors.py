"""The errors of taskd. A user sees the message of each as one line, so each message says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

#: Seconds: ten years.
LONGEST_SNOOZE = 315_360_000


class TaskdError(Exception):
    """Anything that taskd raises on purpose; the message is fit for a user."""


class ConfigurationError(TaskdError):
    """A setting that cannot be used. The message names the source, the key, and what to do."""


class InvalidLiveValue(TaskdError):
    """A live setting that does not exist, or a value that it does not take."""


class AccessDenied(ConfigurationError):
    """A server answers but denies access: trying again does not help, other credentials or rights do.

    `what` says what it denies, `advice` what to do; the message has both.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}: {advice}" if advice else what)
        self.what = what
        self.advice = advice


class Unavailable(TaskdError):
    """A server did not answer in time. `outcome_unknown`: a write may have happened all the same.

    The message may quote a driver, with hosts, roles and statements: it is for logs. `shown` says that it quotes none.
    """

    instead = "a server is away"

    def __init__(self, message: str, *, outcome_unknown: bool = False, shown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
        self.shown = shown

    def with_outcome(self, *, unknown: bool) -> Self:
        """The same error with another `outcome_unknown`."""
        return type(self)(str(self), outcome_unknown=unknown, shown=self.shown)

    @property
    def public(self) -> str:
        """The message for clients of the API, without hosts, roles and statements."""
        return str(self) if self.shown else self.instead


class StoreUnavailable(Unavailable):
    """PostgreSQL did not answer in time."""

    instead = "PostgreSQL is away"


class RowHeld(StoreUnavailable):
    """A transaction that has not ended holds a row that was waited for. Nothing was written."""

    instead = "a transaction that has not ended holds a row that this needs"


class TransportUnavailable(Unavailable):
    """Redis did not answer in time."""

    instead = "Redis is away"


class TransportAccessDenied(TransportUnavailable):
    """Redis answers but denies access. `what` and `advice` as of AccessDenied."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}: {advice}")
        self.what = what
        self.advice = advice


class CoordinatorUnavailable(Unavailable):
    """etcd did not answer in time: raised in a task by `ctx.lock`. Left alone, it fails the attempt, which is tried again."""

    instead = "etcd is away"


class Rejected(TaskdError):
    """PostgreSQL refused the data of a statement (not the connection): this input, tried again, fails again."""


class NotLeader(TaskdError):
    """A leader statement found a newer epoch: this Term is over."""


class SessionLost(TaskdError):
    """A worker's session is dead in PostgreSQL: its claims are no longer its own."""


class WorkerIdTaken(TaskdError):
    """Another live worker has this id."""


class SchemaMismatch(TaskdError):
    """The database's schema is missing, older or newer than this program needs."""


def error_line(text: str | None) -> str:
    """Return the line of an error's text that says what it is; an empty text where there is none.

    That is the first one: libraries put places, carets and links behind it. A traceback, and what Python says of a
    SyntaxError, begin with a place and have it last.
    """
    lines = (text or "").strip().splitlines()
    if not lines:
        return ""
    return lines[-1 if lines[0].startswith(("Traceback", 'File "')) else 0].strip()


class NoResult(TaskdError):
    """A job ended without a result. `job_id`, `error` (None: it has none) and `attempts` are as GET /jobs/{id} shows them."""

    ending = "ended"

    def __init__(self, job_id: int, error: str | None, attempts: Sequence[dict[str, Any]]) -> None:
        super().__init__(job_id, error, attempts)  # as given, so that it can be pickled
        self.job_id = job_id
        self.error = error
        self.attempts = list(attempts)

    def __str__(self) -> str:
        line = error_line(self.error)
        count = len(self.attempts)
        return f"job {self.job_id} {self.ending} after {count} attempt{'s' * (count != 1)}{': ' * bool(line)}{line}"


class JobFailed(NoResult):
    """The job whose result was asked for failed, and is not tried again.

    `job_id` is its number, `error` the text of its last error, `attempts` a list of dicts as GET /jobs/{id} shows them.
    """

    ending = "failed"


class JobCancelled(NoResult):
    """The job whose result was asked for was cancelled. `job_id`, `error` and `attempts` are as in JobFailed."""

    ending = "was cancelled"


class Fail(Exception):
    """Raised by a task: the job fails for good, with this message, whatever retries are left."""


class Unstorable(Fail, ValueError):
    """A value that cannot be stored: no JSON, or too large. The message says what is wrong with it.

    Left alone in a task it fails the job for good: another attempt would do the work again and come to the same.
    """


class Snooze(Exception):
    """Raised by a task: put the job back for so long, at most ten years. It is no failure and costs no retry.

    `until` is a number of seconds, a timedelta, or an instant (an aware datetime; one that has passed means at once).
    Raises ValueError for a time that cannot be waited for, TypeError for anything else.
    """

    def __init__(self, until: float | timedelta | datetime, reason: str = "") -> None:
        seconds = (
            max(0.0, _seconds_to("Snooze", until)) if isinstance(until, datetime) else _seconds_to("Snooze", until)
        )
        if not 0 <= seconds <= LONGEST_SNOOZE:
            raise ValueError(f"Snooze needs a number of seconds from 0 to {LONGEST_SNOOZE}, not {until!r}")
        super().__init__(reason or f"snoozed for {seconds:g} s")
        self.seconds = float(seconds)


class InvalidJob(TaskdError, ValueError):
    """A job that cannot be: the message names the field. Nothing was stored.

    It is raised where options are given, by submits (as a ClientError too), and by submits in a transaction.
    """


class ClaimLost(TaskdError):
    """Raised in a task: its attempt is not the job's any more, so nothing of what it says is kept. It is being stopped."""


class RetryAt(Exception):
    """Raised by a task: try again at `when`: an aware datetime, or from now in so many seconds or a timedelta.

    It counts as a failure. Raises ValueError for a datetime without an offset (only an instant can be waited for) and for
    a time that cannot be waited for, TypeError for anything else.
    """

    def __init__(self, when: datetime | float | timedelta, message: str = "") -> None:
        seconds = _seconds_to("RetryAt", when)
        if not isinstance(when, datetime):
            if not 0 <= seconds <= LONGEST_SNOOZE:
                raise ValueError(f"RetryAt needs a number of seconds from 0 to {LONGEST_SNOOZE}, not {when!r}")
            when = datetime.now(UTC) + timedelta(seconds=seconds)
        super().__init__(message or f"try again at {when.astimezone(UTC).isoformat()}")
        self.when = when


def _seconds_to(name: str, when: object) -> float:
    """Return the seconds from now until `when`. Raises ValueError and TypeError, which name the exception `name`."""
    if isinstance(when, timedelta):
        return when.total_seconds()
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(
                f"{name} needs a datetime with a time zone, for example datetime.now(UTC) + timedelta(minutes=5)"
            )
        return (when - datetime.now(UTC)).total_seconds()
    if isinstance(when, int | float) and not isinstance(when, bool):
        return float(when)
    raise TypeError(f"{name} takes seconds, a timedelta or an aware datetime, not {when!r}")
