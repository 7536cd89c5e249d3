"""Values that travel as JSON: which types can, and hooks for those that msgspec does not know by itself.

msgspec knows JSON's own types, dates, times, UUIDs, decimals, bytes, enums, sets, tuples, dataclasses and its structs. This
module adds Pydantic models (and unions of them), paths, IP addresses, fractions, deques, and the dict types of `collections`. A
type that neither knows is refused where the task is defined: unchecked, its values would arrive as something else.
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
#: Functions that make an object of a standard type from one of a subclass, as drivers and libraries for time return them.
#: msgspec knows only the types themselves.
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
#: Types that `decoded` makes of the JSON container; the abstract ones stay lists.
_MADE: dict[Any, Callable[[Any], Any]] = {
    collections.deque: collections.deque,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
}


def encoded(value: Any) -> Any:
    """Return a substitute for a value that msgspec cannot encode. Raises TypeError for a value that is no JSON."""
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
    """Return a value as JSON's own types, for Python's encoder. Raises TypeError for a value that is no JSON."""
    return msgspec.to_builtins(value, enc_hook=_plainly)


def _plainly(value: Any) -> Any:
    substitute = encoded(value)
    return msgspec.json.decode(substitute) if isinstance(substitute, msgspec.Raw) else substitute


def decoded(kind: Any, value: Any) -> Any:
    """Return the value of this type for decoded JSON. Raises ValueError, with the reason, for JSON that does not fit."""
    if is_model(kind) or is_adapted(kind):
        return model_from(kind, value)
    if kind in _TEXTS:
        return _from_text(kind, value)
    origin = typing.get_origin(kind) or kind
    if origin in _CONTAINERS:
        container = msgspec.convert(value, _CONTAINERS[origin](*typing.get_args(kind)), str_keys=True, dec_hook=decoded)
        return _MADE.get(origin, list)(container)
    return value  # msgspec refuses it, unless the type is `object`


def _from_text(kind: Any, value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a text that {kind.__name__} takes")  # noqa: TRY004 - msgspec reports ValueErrors
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
        info = inspect.type_info(kind)
        msgspec.json.Decoder(kind)
    except (TypeError, ValueError) as error:
        return Obstacle(kind, f": {error}")
    except RecursionError:
        return Obstacle(kind, ": it refers to itself")
    for part in _parts(info, set()):
        if isinstance(part, inspect.CustomType) and not _known(part.cls):
            return Obstacle(part.cls, " is no type that JSON can be read as")
    return None


def one_way(kind: Any) -> Obstacle | None:
    """Return the first model in this type that is known not to be readable from its own JSON; None if there is none."""
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
    """Return True if values of this type are JSON by themselves, so that Python's own encoder is enough."""
    parts = list(_parts(inspect.type_info(kind), set()))
    keys = [part.key_type for part in parts if isinstance(part, inspect.DictType)]
    return all(isinstance(key, inspect.StrType | inspect.AnyType) for key in keys) and all(
        isinstance(part, _NATIVE) or (isinstance(part, inspect.CustomType) and part.cls is object) for part in parts
    )


def _parts(info: inspect.Type, seen: set[Any]) -> Iterator[inspect.Type]:
    """Yield a type and all its parts, each class once: some contain themselves."""
    yield info
    match info:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
            if info.cls in seen:
                return
            seen.add(info.cls)
            inner: list[inspect.Type] = [field.type for field in info.fields]
        case inspect.UnionType():
            inner = list(info.types)
        case inspect.TupleType():
            inner = list(info.item_types)
        case inspect.CollectionType():
            inner = [info.item_type]
        case inspect.DictType():
            inner = [info.key_type, info.value_type]
        case inspect.Metadata():
            inner = [info.type]
        case _:
            return
    for part in inner:
        yield from _parts(part, seen)
