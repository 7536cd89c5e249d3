"""`python -m taskd.dev.example MODULE[:ATTR]`: prints a task of an app, with a valid payload, as one line of JSON.

`taskd dev` shows the line as a submit to try. Only a process that loads the app knows its tasks' parameters.
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
    """Return the first task for which a payload can be made up; None without one."""
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


def _fields(kind: Any) -> dict[str, Any]:
    """Return values for the required fields of a struct or dataclass. Raises LookupError for a type without an example."""
    return {field.encode_name: _value(field.type) for field in kind.fields if field.required}


def _value(kind: inspect.Type) -> Any:
    """Return a value of the type. Raises LookupError for a type without an example."""
    if isinstance(kind, inspect.Metadata):
        return _value(kind.type)
    if isinstance(kind, inspect.UnionType):
        return None if kind.includes_none else _value(kind.types[0])
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.EnumType):
        return next(iter(kind.cls)).value
    return _EXAMPLES[type(kind)](kind)


_EXAMPLES: dict[type[inspect.Type], Callable[[Any], Any]] = {
    inspect.AnyType: lambda _: "text",
    inspect.NoneType: lambda _: None,
    inspect.BoolType: lambda _: True,
    inspect.IntType: lambda kind: max(1, kind.ge if kind.ge is not None else 1),
    inspect.FloatType: lambda kind: max(1.0, kind.ge if kind.ge is not None else 1.0),
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
    """Print the example. Return the exit status: 1 if there is none."""
    loading.search_current_folder()
    try:
        app = loading.load(name, TaskSettings())
    except loading.NotLoadable:
        return 1
    made = example(app.tasks.values()) if isinstance(app, App) else None
    if made is None:
        return 1
    sys.stdout.write(f"\n{msgspec.json.encode(made).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
