"""Constraints of types in words, for refusals that people read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from taskd.domain.job import NAME, NAME_RULE

INSTANT = "an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z"


@functools.cache
def rule(kind: Any, path: str = "") -> str:
    """Return the constraint at `path` of a value of this type, as in "must be a whole number from 0 to 100".

    A path is as in `jobs[0].retry_backoff.max`; `[...]` is any value of a mapping. Raises LookupError for a place that the
    type does not have.
    """
    return f"must be {_words(_at(inspect.type_info(kind), path))}"


def fields(kind: Any, path: str = "") -> str:
    """Return the names of the fields of the struct at `path`."""
    return next(
        _names(found) for found in _kinds(_at(inspect.type_info(kind), path)) if isinstance(found, _WITH_FIELDS)
    )


def steps(path: str) -> Iterator[str | int]:
    """Return the parts of a path: names of fields, numbers of elements, and `...`."""
    for name, place in _STEP.findall(path):
        yield name or (int(place) if place.isdigit() else place)


def instead(document: bytes, path: str) -> str:
    """Return the value at `path` of this JSON, as in ", not 101"; an empty text if it is long or missing."""
    try:
        value = msgspec.json.decode(document, type=msgspec.Raw)
        for step in steps(path):
            held: Any = list[msgspec.Raw] if type(step) is int else dict[str, msgspec.Raw]
            value = msgspec.json.decode(value, type=held)[step]
    except (msgspec.MsgspecError, LookupError, TypeError, UnicodeDecodeError, RecursionError):
        return ""
    text = bytes(value).strip().decode(errors="replace")
    return f", not {text}" if len(text) <= _MAX_QUOTED else ""


#: In characters.
_MAX_QUOTED = 40
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_WITH_FIELDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


def _at(found: inspect.Type, path: str) -> inspect.Type:
    for step in steps(path):
        inner = next((inner for kind in _kinds(found) if (inner := _inside(kind, step)) is not None), None)
        if inner is None:
            raise LookupError(f"there is no {path}")
        found = inner
    return found


def _kinds(found: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(found, inspect.Metadata):
        return _kinds(found.type)
    return found.types if isinstance(found, inspect.UnionType) else (found,)


def _inside(found: inspect.Type, step: str | int) -> inspect.Type | None:
    """Return the type of one field or element."""
    match found:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return next((field.type for field in found.fields if field.encode_name == step), None)
        case inspect.NamedTupleType():
            return found.fields[step].type if type(step) is int and step < len(found.fields) else None
        case inspect.TupleType():
            return found.item_types[step] if type(step) is int and step < len(found.item_types) else None
        case inspect.CollectionType():
            return found.item_type if type(step) is int else None
        case inspect.DictType():
            return found.value_type if step == "..." else None
    return None


def _names(found: inspect.StructType | inspect.DataclassType | inspect.TypedDictType) -> str:
    return ", ".join(field.encode_name for field in found.fields)


def _words(found: inspect.Type) -> str:
    return next((words(found) for kind, words in _TABLE.items() if isinstance(found, kind)), "something else")


def _range(found: inspect.IntType | inspect.FloatType) -> str:
    least, above, most = found.ge, found.gt, found.le
    match least, above, most:
        case None, None, None:
            return ""
        case _, None, None:
            return f" of at least {_number(least)}"
        case None, None, _:
            return f" of at most {_number(most)}"
        case None, _, None:
            return f" above {_number(above)}"
        case None, _, _:
            return f" above {_number(above)}, at most {_number(most)}"
    return f" from {_number(least)} to {_number(most)}"


def _number(value: float | None) -> str:
    return str(int(value)) if value is not None and value == int(value) else str(value)


def _length(least: int | None, most: int | None) -> str:
    if least and most is not None:
        return f" of {least} to {most} characters"
    if most is not None:
        return f" of at most {most} characters"
    return f" of at least {least} characters" if least else ""


def _text(found: inspect.StrType) -> str:
    if found.pattern == NAME:
        return NAME_RULE.removeprefix("must be ")
    return f"a text{_length(found.min_length, found.max_length)}"


def _either(found: inspect.UnionType) -> str:
    return ", or ".join(_words(one) for one in found.types if not isinstance(one, inspect.NoneType))


def _one_of(values: Iterable[object]) -> str:
    return f"one of {', '.join(map(str, values))}"


_TABLE: dict[type[inspect.Type], Callable[[Any], str]] = {
    inspect.IntType: lambda found: f"a whole number{_range(found)}",
    inspect.FloatType: lambda found: f"a number{_range(found)}",
    inspect.BoolType: lambda _: "true or false",
    inspect.StrType: _text,
    inspect.DateTimeType: lambda found: INSTANT if found.tz else "a time, as in 2026-01-31T12:00:00Z",
    inspect.DateType: lambda _: "a date, as in 2026-01-31",
    inspect.TimeType: lambda _: "a time of day, as in 12:00:00",
    inspect.TimeDeltaType: lambda _: "an ISO 8601 duration, as in PT5M",
    inspect.DecimalType: lambda _: 'a decimal number, as in "1.10"',
    inspect.UUIDType: lambda _: "a UUID",
    inspect.BytesType: lambda _: "a text in Base64",
    inspect.ByteArrayType: lambda _: "a text in Base64",
    inspect.EnumType: lambda found: _one_of(member.value for member in found.cls),
    inspect.LiteralType: lambda found: _one_of(found.values),
    **dict.fromkeys(_WITH_FIELDS, lambda found: f"an object with the fields {_names(found)}"),
    inspect.NamedTupleType: lambda found: f"an array of {len(found.fields)} values",
    inspect.TupleType: lambda found: f"an array of {len(found.item_types)} values",
    inspect.DictType: lambda _: "an object",
    inspect.CollectionType: lambda _: "an array",
    inspect.UnionType: _either,
    inspect.NoneType: lambda _: "null",
    inspect.CustomType: lambda found: f"a {found.cls.__name__}",
    inspect.Metadata: lambda found: _words(found.type),
}
