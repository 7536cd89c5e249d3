"""Comparison of a value that was sent with the value that arrived."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from taskd.app.models import is_model


def alike(sent: Any, arrived: Any) -> bool:
    """Return True for equal values, and for objects of one class without an equality of their own whose contents are alike.

    Datetimes with a zone are alike if they are the same instant: in the hour that clocks repeat or skip, Python calls no two
    of different zones equal (PEP 495).
    """
    return _same(sent, arrived) or (type(sent) is type(arrived) and _same_contents(sent, arrived, alike))


def faithful(returned: Any, read: Any) -> bool:
    """Return True if `read`, which the annotation makes of a result's JSON, is the value that the task has returned.

    An annotation may say more than the value's own type does: then a dict is read as a model, a tuple as a list, a text as a
    date. A value that the annotation does not describe, such as a date where it says Any, is read as another value.
    """
    if alike(returned, read):
        return True
    if isinstance(returned, str | int | float):
        return read is not None  # NaN is null in JSON
    if isinstance(returned, Mapping):
        if not isinstance(read, Mapping):
            return read is not None
        return returned.keys() == read.keys() and all(faithful(value, read[key]) for key, value in returned.items())
    if _is_collection(returned) and _is_collection(read):
        return len(returned) == len(read) and all(map(faithful, returned, read))
    fields, others = _fields(returned), _fields(read)
    if fields is None or others is None:
        return False
    return all(name in fields and faithful(fields[name], value) for name, value in others.items())


def _same(sent: Any, arrived: Any) -> bool:
    if isinstance(sent, datetime) and isinstance(arrived, datetime) and sent.tzinfo is not None:
        return arrived.tzinfo is not None and bool(_instant(sent) == _instant(arrived))
    if isinstance(sent, Decimal) and isinstance(arrived, Decimal) and sent.is_nan():
        return arrived.is_nan()  # NaN equals nothing
    return bool(sent == arrived)


def _same_contents(sent: Any, arrived: Any, same: Callable[[Any, Any], bool]) -> bool:
    """Compare the contents of two objects of one class."""
    if isinstance(sent, Mapping):
        return sent.keys() == arrived.keys() and all(same(value, arrived[key]) for key, value in sent.items())
    if isinstance(sent, Set):
        return {_instant(item) for item in sent} == {_instant(item) for item in arrived}
    if _is_collection(sent):
        return len(sent) == len(arrived) and all(map(same, sent, arrived))
    if is_model(type(sent)):  # its private attributes count for equality, and are not meant to travel
        return same(sent.model_dump(), arrived.model_dump())
    fields = _fields(sent)
    if fields is not None:
        others = _fields(arrived) or {}
        return all(same(value, others[name]) for name, value in fields.items())
    return sent.__eq__(arrived) is NotImplemented  # its class does not say when its objects are equal


def _fields(value: Any) -> Mapping[str, Any] | None:
    if is_model(type(value)):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value) if field.compare}
    return None


def _is_collection(value: Any) -> bool:
    return isinstance(value, Sequence | Collection) and not isinstance(value, str | bytes | bytearray | Mapping)


def _instant(value: Any) -> Any:
    """Return the time since the year 1 in UTC for a datetime with a zone; any other value as it is.

    The instant may lie outside the years that a datetime can have.
    """
    if not isinstance(value, datetime) or (offset := value.utcoffset()) is None:
        return value
    return value.replace(tzinfo=None) - datetime.min - offset
