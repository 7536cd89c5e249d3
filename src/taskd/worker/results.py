"""What a task returned or raised, made fit for the database: strict JSON and clean text, both limited in size."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from taskd.domain.errors import Fail, RetryAt, Snooze, Unstorable
from taskd.seams import Order
from taskd.worker.frames import End, How
from taskd.worker.tracebacks import describe, summary

# The standard encoder is strict where msgspec is kind: NaN, bytes, dates and objects are errors, not null or text.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_CONTAINERS = (dict, list, tuple)
_CUT = "\n... {} characters left out ...\n"


#: How deep lists and dicts of a result may be nested: whoever reads it has a recursion limit too.
MAX_DEPTH = 200
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"


Encode = Callable[[Any], bytes]


def to_json(
    value: Any, limit: int, what: str = "the result", encode: Encode | None = None, *, strict_keys: bool = True
) -> bytes:
    """Return the value as JSON of at most `limit` bytes. Raises Unstorable.

    `encode` knows types that are not JSON's own; it raises TypeError or ValueError. `strict_keys`: a key of a dict is a text.
    """
    if isinstance(value, _CONTAINERS):
        _check(value, what, keys=strict_keys)
    try:
        text = b"null" if value is None else encode(value) if encode is not None else _encode(value).encode()
    except UnicodeEncodeError:
        raise Unstorable(f"{what} is not JSON: a string in it has a lone surrogate") from None
    except RecursionError:
        raise Unstorable(f"{what} is not JSON: {_TOO_DEEP}") from None
    except (TypeError, ValueError) as error:
        hint = _HINT if encode is None else ""
        raise Unstorable(f"{what} is not JSON: {_plainly(error, hint)}") from None
    if len(text) > limit:
        raise Unstorable(f"{what} has {len(text)} bytes, but at most {limit} are stored (worker.max_result_bytes)")
    if b"\\u0000" in text and _NUL.search(text):
        raise Unstorable(f"{what} cannot be stored: a string in it has a NUL character")
    if not strict_keys and not isinstance(value, _CONTAINERS):
        _check([msgspec.json.decode(text)], what)
    return text


def plainly(plain: Callable[[Any], Any]) -> Encode:
    """Return an encoder that is as strict as JSON, and asks `plain` for what stands for other objects."""
    encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=plain).encode
    return lambda value: encode(value).encode()


def _check(value: Any, what: str, *, keys: bool = True) -> None:
    """Refuse what the encoder would take and spoil: it writes the keys 1 and True as texts, and trusts any depth."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: dict[int, Any] = {}  # by identity: what is shared is looked at once a level
        for container in level:
            if isinstance(container, dict):
                for key in container if keys else ():
                    if not isinstance(key, str):
                        raise Unstorable(f"{what} is not JSON: {_bad_key(type(key).__name__)}")
                container = container.values()  # noqa: PLW2901 - its keys are done with
            for item in container:
                if isinstance(item, _CONTAINERS):
                    below[id(item)] = item
        if not below:
            return
        level = list(below.values())
    raise Unstorable(f"{what} is not JSON: {_TOO_DEEP}")


def _bad_key(kind: str) -> str:
    return f"a dict in it has a key of type {kind}, and JSON's keys are strings (convert them, for example with str)"


def _plainly(error: Exception, hint: str = "") -> str:
    text = str(error)
    if text.startswith("Exceeds the limit"):
        return f"it has an integer of more than {sys.get_int_max_str_digits()} digits"
    if text.startswith("Out of range float"):
        return "it has a number that is NaN or infinite"
    found = re.fullmatch(r"Object of type (.+) is not JSON serializable", text)
    if found is None:
        return text
    if found[1] == "coroutine":
        hint = " (is an await missing?)"
    return f"it has an object of type {found[1]}{hint}"


def to_text(text: str, limit: int) -> bytes:
    """The text as clean UTF-8 of at most `limit` bytes: its head and, mostly, its tail."""
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


_HINT = " (a return annotation that names its type lets more than JSON's own types be stored)"


class Results:
    """Turns what attempts return and raise into Ends."""

    def __init__(self, max_result_bytes: int, max_error_bytes: int) -> None:
        self.max_result = max_result_bytes
        self._max_error = max_error_bytes

    def returned(self, order: Order, value: Any, encode: Encode | None = None) -> End:
        """Return the end of an attempt whose task returned `value`; one that cannot be stored fails the job for good."""
        try:
            return End(order.job_id, order.attempt, How.COMPLETED, self._stored(value, encode))
        except Exception as error:  # noqa: BLE001 - a dict or str subclass of the user's may raise anything
            if isinstance(error, Unstorable):
                return self.failed(order, str(error), How.FAILED_FOR_GOOD)
            text = f"the result is not JSON: encoding it raised {summary(error)}"
            return self.failed(order, text, How.FAILED_FOR_GOOD, self.traceback(error))

    def _stored(self, value: Any, encode: Encode | None) -> bytes:
        return to_json(value, self.max_result, encode=encode, strict_keys=encode is None)

    def raised(self, order: Order, error: BaseException) -> End:
        """The end of an attempt whose task raised `error`."""
        if isinstance(error, Snooze):
            data = to_text(_safe_str(error), self._max_error)
            return End(order.job_id, order.attempt, How.SNOOZED, data, error.seconds)
        if isinstance(error, Fail):
            text = _safe_str(error) or "the task raised Fail without a message"
            return self.failed(order, text, How.FAILED_FOR_GOOD, self.traceback(error))
        if isinstance(error, RetryAt):
            data = to_text(_safe_str(error), self._max_error)
            return End(order.job_id, order.attempt, How.FAILED, data, error.when, self.traceback(error))
        if isinstance(error, asyncio.CancelledError):
            return self.failed(order, "the task cancelled itself", traceback=self.traceback(error))
        return self.failed(order, summary(error), traceback=self.traceback(error))

    def traceback(self, error: BaseException) -> bytes:
        """Where it was raised, as far as that lies in the user's code or in what that has called; else nothing."""
        text = describe(error)
        return to_text(text, self._max_error) if "\n" in text else b""

    def failed(self, order: Order, text: str, how: How = How.FAILED, traceback: bytes = b"") -> End:
        """The end of an attempt that failed with this text."""
        return End(order.job_id, order.attempt, how, to_text(text, self._max_error), None, traceback)

    def stopped(self, order: Order, end: End | None = None) -> End:
        """The end of an attempt that was asked to stop, and did; `end` is what it would have been otherwise."""
        return End(order.job_id, order.attempt, How.STOPPED, traceback=end.traceback if end is not None else b"")


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - see describe
        return type(error).__name__
