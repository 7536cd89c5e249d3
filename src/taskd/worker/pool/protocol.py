"""The messages between the worker and an executor: msgpack, each after its length (4 bytes, big-endian)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.output import Chunk
from taskd.seams import Order
from taskd.settings import TaskSettings

#: Bytes of the longest frame: far more than one batch of attempts or ends needs, far less than garbage may announce.
MAX_FRAME = 64 * 2**20
#: Characters of the longest name of a lock.
MAX_LOCK_NAME = 1000
#: The app of a worker that was given none: built-in tasks only.
BUILTIN = "taskd.app.builtin:app"
_LENGTH = struct.Struct(">I")


class BrokenStream(Exception):
    """The received bytes are no messages of the other side: something else has written to the connection, or it is cut."""


class TooLong(OverflowError):
    """The message does not fit a frame: send it in parts."""


class Transactions(msgspec.Struct, frozen=True, array_like=True):
    """The connections of tasks to PostgreSQL for transactions of their own; `size` is the most at once in one executor."""

    dsn: str = ""
    size: int = 1
    pooled: bool = False


class Setup(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """First message to an executor: the app to load and its limits."""

    app: str
    max_result_bytes: int
    max_error_bytes: int
    worker_id: str
    log_level: str
    log_format: str
    tasks: TaskSettings = TaskSettings()
    #: Seconds that a plain function has to stop by itself, if it looks at `ctx.cancelled`.
    patience: float = 1.0
    transactions: Transactions = Transactions()
    #: The most bytes that are kept of an attempt's output; 0: output is not captured.
    max_log_bytes: int = 0


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """To an executor: run these attempts."""

    orders: list[Order]


class AttemptMessage(msgspec.Struct, frozen=True, array_like=True):
    """Base of the messages that are about one attempt."""

    job_id: int
    attempt: int

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt's identity."""
        return AttemptId(self.job_id, self.attempt)


class Cancel(AttemptMessage, frozen=True, array_like=True, tag=2):
    """To an executor: stop this attempt."""


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """To an executor: exit in good order."""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """From an executor: the app is loaded and has these tasks; `timeouts` (seconds) of those whose definition has one."""

    tasks: list[str]
    timeouts: dict[str, float] = {}


class Unusable(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """From an executor: it cannot load the app, or it needs a successor; the reason in one line."""

    reason: str


class EndKind(IntEnum):
    """The way in which an attempt ended inside its executor."""

    COMPLETED = 0
    FAILED = 1
    FAILED_FOR_GOOD = 2
    STOPPED = 3
    SNOOZED = 4
    #: The task's own transaction has completed the job.
    RECORDED = 5


class End(AttemptMessage, frozen=True, array_like=True):
    """One attempt's end: `data` is the result's JSON or the error's text (UTF-8).

    `traceback` is where the task was when it failed or was stopped. `next_run` is when the task wants to run again: a moment,
    or seconds from now. `output` has the lines that no earlier message had.
    """

    kind: EndKind
    data: bytes = b""
    next_run: datetime | float | None = None
    traceback: bytes = b""
    output: Chunk | None = None


class Ends(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """From an executor: these attempts ended. `lines_lost` counts the lines of its own log that it has lost so far."""

    ends: list[End]
    lines_lost: int = 0


class NoteMessage(AttemptMessage, frozen=True, array_like=True, tag=7):
    """From an executor: a running attempt's progress or checkpoint, as JSON. A checkpoint has a number, for its answer."""

    number: int = 0
    progress: bytes | None = None
    checkpoint: bytes | None = None


class Denial(IntEnum):
    """Why a request of an attempt was denied."""

    FENCED = 0
    TOO_LATE = 1
    NO_ETCD = 2


class Answer(AttemptMessage, frozen=True, array_like=True, tag=8):
    """To an executor: the request with this number is done (a lock has a `fence`), or was denied, with the reason as `text`."""

    number: int
    fence: int = 0
    denial: Denial | None = None
    text: str = ""


class LockRequest(AttemptMessage, frozen=True, array_like=True, tag=9):
    """From an executor: a running attempt wants this lock, within `wait` seconds if that is given."""

    number: int
    name: str
    wait: float | None = None


class LockRelease(AttemptMessage, frozen=True, array_like=True, tag=10):
    """From an executor: the attempt releases the lock that it asked for with this number."""

    number: int


class LogMessage(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """From an executor: lines that attempts have logged and printed."""

    chunks: list[Chunk]


#: The messages of a running attempt's link; and those together with its output.
LinkMessage = NoteMessage | LockRequest | LockRelease
TaskMessage = LinkMessage | Chunk
ToExecutor = Setup | Begin | Cancel | Shutdown | Answer
ToWorker = Ready | Unusable | Ends | NoteMessage | LockRequest | LockRelease | LogMessage

_encoder = msgspec.msgpack.Encoder()


def encode(message: ToExecutor | ToWorker) -> bytes:
    """Return a message as a frame. Raises OverflowError for an integer beyond 64 bits, TooLong (one of these) if it is long."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise TooLong(f"a message of {len(body)} bytes does not fit a frame, which has at most {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class FrameSplitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bodies that are complete with `data`. Raises BrokenStream for a length that no frame has."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME:
                raise BrokenStream(f"a frame of {length} bytes was announced, but the longest has {MAX_FRAME}")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[start + _LENGTH.size : end])
            start = end
        del buffer[:start]
