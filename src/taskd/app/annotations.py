"""Annotations of a task's function, as types that values can be made of from JSON."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from taskd.app.context import Context
from taskd.app.models import adapted, is_model
from taskd.app.values import obstacle


class Unreadable(TypeError):
    """An annotation that names what is not there, or not yet."""


def annotation(task: str, function: Callable[..., Any], name: str, found: Any) -> Any:
    """Return the type that `found` stands for, as msgspec can check it. `name`: what has this annotation.

    Raises Unreadable for a text that stands for no type yet, TypeError for a type whose values cannot travel as JSON: in both
    cases a value would arrive as something else than its annotation says.
    """
    if found is inspect.Signature.empty:
        return Any
    try:
        found = resolved(function, found)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise Unreadable(
            f"task {task!r}: the annotation of {name!r} cannot be read ({error}): what it names must be there at run time,"
            " at the top level of the module and not under `if TYPE_CHECKING`; or annotate with Any"
        ) from None
    if found is Context or Context in typing.get_args(found):
        return Context
    if found in (typing.NoReturn, typing.Never, object):
        return Any
    reason = obstacle(found)
    if reason is None:
        return found
    stand_in = adapted(found) if _contains_model(found) else None
    if stand_in is None:
        raise TypeError(
            f"task {task!r}: the annotation of {name!r} cannot travel as JSON ({reason}): use types that JSON can be read as,"
            " such as dataclasses, msgspec structs and Pydantic models, or annotate with Any"
        )
    return stand_in


def resolved(function: Callable[..., Any], found: Any) -> Any:
    """Return an annotation of the function's as a type, also if a part of it is a text, as in `list["Later"]`.

    Raises what Python raises for a text that stands for no type.
    """
    if isinstance(found, type) and not typing.get_args(found):
        return found
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    holder = type("holder", (), {"__annotations__": {"it": found}})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]


def _contains_model(found: Any) -> bool:
    return is_model(found) or any(map(_contains_model, typing.get_args(found)))
