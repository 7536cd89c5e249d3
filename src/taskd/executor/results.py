"""Ends of attempts: the returned value as strict JSON, or the exception as clean text, both limited in size."""

from __future__ import annotations

import asyncio
from typing import Any

from taskd.domain.errors import Fail, RetryAt, Snooze, Unstorable
from taskd.domain.storable import Encode, to_json
from taskd.executor.tracebacks import describe, summary
from taskd.seams import Order
from taskd.worker.pool.protocol import End, EndKind

_CUT = "\n... {} characters left out ...\n"


def to_text(text: str, limit: int) -> bytes:
    """Return the text as clean UTF-8 of at most `limit` bytes: its beginning and, mostly, its end."""
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    if len(clean) <= limit:
        return clean
    note = _CUT.format(len(text)).encode()
    room = max(0, limit - len(note))
    head = clean[: room // 3].decode("utf-8", "ignore")
    tail = clean[len(clean) - (room - room // 3) :].decode("utf-8", "ignore")
    left_out = len(clean) - len(head.encode()) - len(tail.encode())
    cut = (head + _CUT.format(left_out) + tail).encode()[: max(limit, 0)]
    return cut.decode("utf-8", "ignore").encode()  # the number may have one digit more than was reckoned with


class ResultEncoder:
    """Turns the values and exceptions of attempts into Ends."""

    def __init__(self, max_result_bytes: int, max_error_bytes: int) -> None:
        self.max_result = max_result_bytes
        self._max_error = max_error_bytes

    def returned(self, order: Order, value: Any, encode: Encode | None = None) -> End:
        """Return the end of an attempt whose task returned `value`; a value that cannot be stored fails the job for good."""
        try:
            return End(order.job.id, order.attempt, EndKind.COMPLETED, self._stored(value, encode))
        except Exception as error:  # noqa: BLE001 - a dict or str subclass of the user's may raise anything
            if isinstance(error, Unstorable):
                return self.failed(order, str(error), EndKind.FAILED_FOR_GOOD)
            text = f"the result is not JSON: encoding it raised {summary(error)}"
            return self.failed(order, text, EndKind.FAILED_FOR_GOOD, self.traceback(error))

    def _stored(self, value: Any, encode: Encode | None) -> bytes:
        return to_json(value, self.max_result, encode=encode, strict_keys=encode is None)

    def raised(self, order: Order, error: BaseException) -> End:
        """Return the end of an attempt whose task raised `error`."""
        if isinstance(error, Snooze):
            data = to_text(_safe_str(error), self._max_error)
            return End(order.job.id, order.attempt, EndKind.SNOOZED, data, error.seconds)
        if isinstance(error, Fail):
            text = _safe_str(error) or "the task raised Fail without a message"
            return self.failed(order, text, EndKind.FAILED_FOR_GOOD, self.traceback(error))
        if isinstance(error, RetryAt):
            data = to_text(_safe_str(error), self._max_error)
            return End(order.job.id, order.attempt, EndKind.FAILED, data, error.when, self.traceback(error))
        if isinstance(error, asyncio.CancelledError):
            return self.failed(order, "the task cancelled itself", traceback=self.traceback(error))
        return self.failed(order, summary(error), traceback=self.traceback(error))

    def traceback(self, error: BaseException) -> bytes:
        """Return the traceback, if any of it lies in the user's code or in what that has called; else nothing."""
        text = describe(error)
        return to_text(text, self._max_error) if "\n" in text else b""

    def failed(self, order: Order, text: str, kind: EndKind = EndKind.FAILED, traceback: bytes = b"") -> End:
        """Return the end of an attempt that failed with this text."""
        return End(order.job.id, order.attempt, kind, to_text(text, self._max_error), None, traceback)

    def stopped(self, order: Order, end: End | None = None) -> End:
        """Return the end of an attempt that stopped when it was asked to; `end` is its end without that."""
        return End(order.job.id, order.attempt, EndKind.STOPPED, traceback=end.traceback if end is not None else b"")


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - see describe
        return type(error).__name__
