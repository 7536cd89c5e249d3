"""`python -m taskd.dev.example MODULE[:ATTR]`: a task of an app, with a payload that it takes, as one line of JSON.

`taskd dev` shows a submit to try. Only a process that loads the app knows what its tasks take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import inspect

from taskd.app import App
from taskd.app.task import Task
from taskd.domain.errors import Fail
from taskd.executor import loading
from taskd.settings import TaskSettings


class Example(msgspec.Struct):
    """A task's name, and a payload that fits its annotations."""

    task: str
    payload: Any


def example(tasks: Iterable[Task[Any, Any]]) -> Example | None:
    """The first of the tasks for which a payload can be made up."""
    for task in tasks:
        try:
            payload = _fields(inspect.type_info(task.arguments.prepare().struct))
            task.arguments.bind(msgspec.json.encode(payload), _no_context)
        except (Fail, LookupError, TypeError, ValueError):
            continue
        return Example(task.name, payload)
    return None


def _no_context() -> Any:
    return None


def _fields(found: Any) -> dict[str, Any]:
    """The required fields of a struct or dataclass. Raises LookupError for a type without an example."""
    return {field.encode_name: _value(field.type) for field in found.fields if field.required}


def _value(found: inspect.Type) -> Any:
    """A value of the type. Raises LookupError."""
    if isinstance(found, inspect.Metadata):
        return _value(found.type)
    if isinstance(found, inspect.UnionType):
        return None if found.includes_none else _value(found.types[0])
    if isinstance(found, inspect.LiteralType):
        return found.values[0]
    if isinstance(found, inspect.EnumType):
        return next(iter(found.cls)).value
    return _EXAMPLES[type(found)](found)


_EXAMPLES: dict[type[inspect.Type], Callable[[Any], Any]] = {
    inspect.AnyType: lambda _: "text",
    inspect.NoneType: lambda _: None,
    inspect.BoolType: lambda _: True,
    inspect.IntType: lambda found: max(1, found.ge if found.ge is not None else 1),
    inspect.FloatType: lambda found: max(1.0, found.ge if found.ge is not None else 1.0),
    inspect.StrType: lambda _: "text",
    inspect.DateTimeType: lambda _: "2026-01-31T12:00:00Z",
    inspect.DateType: lambda _: "2026-01-31",
    inspect.UUIDType: lambda _: "00000000-0000-0000-0000-000000000001",
    inspect.ListType: lambda _: [],
    inspect.DictType: lambda _: {},
    inspect.StructType: _fields,
    inspect.DataclassType: _fields,
    inspect.TypedDictType: _fields,
}


def main(name: str) -> int:
    """Print the example; 1 if there is none."""
    loading.search_current_folder()
    try:
        app = loading.load(name, TaskSettings())
    except loading.NotLoadable:
        return 1
    found = example(app.tasks.values()) if isinstance(app, App) else None
    if found is None:
        return 1
    sys.stdout.write(f"\n{msgspec.json.encode(found).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
