"""Values that travel as JSON: which types can, and hooks for those that msgspec does not know by itself.

msgspec knows JSON's own types, dates, times, UUIDs, decimals, bytes, enums, sets, tuples, dataclasses and its structs. Added
here: Pydantic models (and unions of them), paths, IP addresses, fractions, deques, and the dict types of `collections`. A type
that neither knows is refused where the task is defined: unchecked, its values would arrive as something else.
"""

from __future__ import annotations

import collections
import collections.abc
import fractions
import ipaddress
import operator
import pathlib
import typing
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, SupportsIndex

import msgspec
from msgspec import inspect

from taskd.app.models import is_adapted, is_model, model_from, model_text, unreadable

_ADDRESSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)
_PATHS = (
    pathlib.Path,
    pathlib.PurePath,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)
#: Types that travel as a text which their constructor takes.
_TEXTS: tuple[type[Any], ...] = (*_ADDRESSES, *_PATHS, fractions.Fraction)
#: What makes an object of a standard type from one of a subclass, which drivers and libraries of time return: msgspec knows
#: the types themselves.
_BASES: dict[type[Any], Callable[[Any], Any]] = {
    datetime: lambda it: datetime.combine(it.date(), it.timetz()).replace(fold=it.fold),
    date: lambda it: date(it.year, it.month, it.day),
    time: lambda it: time(it.hour, it.minute, it.second, it.microsecond, it.tzinfo, fold=it.fold),
    timedelta: lambda it: timedelta(it.days, it.seconds, it.microseconds),
    uuid.UUID: lambda it: uuid.UUID(int=it.int),
    Decimal: Decimal,
    SupportsIndex: operator.index,  # whole numbers of numpy
}
#: Containers, each with the JSON container that it travels as, by the type's arguments.
_CONTAINERS: dict[Any, Callable[..., Any]] = {
    collections.deque: lambda item=Any: list.__class_getitem__(item),
    collections.OrderedDict: lambda key=Any, value=Any: dict.__class_getitem__((key, value)),
    collections.Counter: lambda key=Any: dict.__class_getitem__((key, int)),
    collections.abc.Iterable: lambda item=Any: list.__class_getitem__(item),
    collections.abc.Reversible: lambda item=Any: list.__class_getitem__(item),
    collections.abc.Container: lambda item=Any: list.__class_getitem__(item),
}
#: What `decoded` makes of the JSON container; the abstract ones stay lists.
_MADE: dict[Any, Callable[[Any], Any]] = {
    collections.deque: collections.deque,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
}


def encoded(value: Any) -> Any:
    """Return what stands for a value that msgspec cannot encode. Raises TypeError for one that is no JSON."""
    kind = type(value)
    if is_model(kind):
        return msgspec.Raw(model_text(value))
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, collections.deque):
        return list(value)
    for base, built in _BASES.items():
        if isinstance(value, base):
            return built(value)
    raise TypeError(f"an object of type {kind.__name__} is no JSON")


def plain(value: Any) -> Any:
    """Return a value as JSON's own types, for Python's encoder. Raises TypeError for one that is no JSON."""
    return msgspec.to_builtins(value, enc_hook=_plainly)


def _plainly(value: Any) -> Any:
    found = encoded(value)
    return msgspec.json.decode(found) if isinstance(found, msgspec.Raw) else found


def decoded(kind: Any, value: Any) -> Any:
    """Return the value of this type for decoded JSON. Raises ValueError, saying what does not fit."""
    if is_model(kind) or is_adapted(kind):
        return model_from(kind, value)
    if kind in _TEXTS:
        return _from_text(kind, value)
    origin = typing.get_origin(kind) or kind
    if origin in _CONTAINERS:
        found = msgspec.convert(value, _CONTAINERS[origin](*typing.get_args(kind)), str_keys=True, dec_hook=decoded)
        return _MADE.get(origin, list)(found)
    return value  # msgspec refuses it, unless the type is `object`


def _from_text(kind: Any, value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a text that {kind.__name__} takes")  # noqa: TRY004 - msgspec tells ValueErrors
    try:
        return kind(value)
    except ArithmeticError as error:  # of a fraction: a denominator of zero
        raise ValueError(str(error)) from None


class Obstacle(NamedTuple):
    """A part of a type that cannot travel, and why."""

    kind: Any
    reason: str

    def __str__(self) -> str:
        return f"{getattr(self.kind, '__name__', self.kind)}{self.reason}"


def obstacle(kind: Any) -> Obstacle | None:
    """Return the first part of this type whose values cannot be made from JSON; None if all can."""
    try:
        found = inspect.type_info(kind)
        msgspec.json.Decoder(kind)
    except (TypeError, ValueError) as error:
        return Obstacle(kind, f": {error}")
    except RecursionError:
        return Obstacle(kind, ": it refers to itself")
    for part in _parts(found, set()):
        if isinstance(part, inspect.CustomType) and not _known(part.cls):
            return Obstacle(part.cls, " is no type that JSON can be read as")
    return None


def one_way(kind: Any) -> Obstacle | None:
    """Return the first model in this type that cannot be read from the JSON that it makes; None if none is known to be so."""
    for part in _parts(inspect.type_info(kind), set()):
        if isinstance(part, inspect.CustomType) and is_model(part.cls) and (why := unreadable(part.cls)) is not None:
            return Obstacle(part.cls, f": {why}")
    return None


def _known(kind: Any) -> bool:
    return kind is object or is_model(kind) or is_adapted(kind) or kind in _TEXTS or kind in _CONTAINERS


_NATIVE = (
    inspect.AnyType,
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.LiteralType,
    inspect.ListType,
    inspect.VarTupleType,
    inspect.TupleType,
    inspect.TypedDictType,
    inspect.UnionType,
    inspect.Metadata,
    inspect.DictType,
)


def native(kind: Any) -> bool:
    """True if values of this type are JSON by themselves, so that Python's own encoder is all that they need."""
    parts = list(_parts(inspect.type_info(kind), set()))
    keys = [part.key_type for part in parts if isinstance(part, inspect.DictType)]
    return all(isinstance(key, inspect.StrType | inspect.AnyType) for key in keys) and all(
        isinstance(part, _NATIVE) or (isinstance(part, inspect.CustomType) and part.cls is object) for part in parts
    )


def _parts(found: inspect.Type, seen: set[Any]) -> Iterator[inspect.Type]:
    """Yield a type and all that it consists of, each class once: some contain themselves."""
    yield found
    match found:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
            if found.cls in seen:
                return
            seen.add(found.cls)
            inner: list[inspect.Type] = [field.type for field in found.fields]
        case inspect.UnionType():
            inner = list(found.types)
        case inspect.TupleType():
            inner = list(found.item_types)
        case inspect.CollectionType():
            inner = [found.item_type]
        case inspect.DictType():
            inner = [found.key_type, found.value_type]
        case inspect.Metadata():
            inner = [found.type]
        case _:
            return
    for part in inner:
        yield from _parts(part, seen)
