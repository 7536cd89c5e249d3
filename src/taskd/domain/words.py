"""What a value of some type must be, in words: for refusals that people read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import inspect

from taskd.domain.job import NAME, NAME_RULE

INSTANT = "an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z"


@functools.cache
def rule(kind: Any, path: str = "") -> str:
    """What must be at `path` (dots between fields) of a value of this type, as in "must be a whole number from 0 to 100"."""
    return f"must be {_words(_at(inspect.type_info(kind), path))}"


def fields(kind: Any, path: str = "") -> str:
    """The names of the fields of the struct that is at `path`."""
    return _names(_struct(_at(inspect.type_info(kind), path)))


def _at(found: inspect.Type, path: str) -> inspect.Type:
    for name in filter(None, path.split(".")):
        found = next(field.type for field in _struct(found).fields if field.name == name)
    return found


def _struct(found: inspect.Type) -> inspect.StructType:
    kinds = found.types if isinstance(found, inspect.UnionType) else (found,)
    return next(kind for kind in kinds if isinstance(kind, inspect.StructType))


def _names(found: inspect.StructType) -> str:
    return ", ".join(field.name for field in found.fields)


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
    inspect.DateTimeType: lambda _: INSTANT,
    inspect.EnumType: lambda found: _one_of(member.value for member in found.cls),
    inspect.LiteralType: lambda found: _one_of(found.values),
    inspect.StructType: lambda found: f"an object with the fields {_names(found)}",
    inspect.DictType: lambda _: "an object",
    inspect.CollectionType: lambda _: "an array",
    inspect.UnionType: _either,
    inspect.Metadata: lambda found: _words(found.type),
}
