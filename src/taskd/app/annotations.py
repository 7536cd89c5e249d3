"""Annotations of a task's function, as types whose values can be made from JSON."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from taskd.app.context import Context
from taskd.app.models import adapted, is_model
from taskd.app.values import obstacle


class UnreadableAnnotation(TypeError):
    """An annotation that names something which is not defined, or not yet."""


def checkable(task: str, function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """Return the type that the annotation of the parameter `name` (or "return") stands for, as msgspec can check it.

    Raises UnreadableAnnotation for a text that stands for no type yet, TypeError for a type whose values cannot travel as JSON:
    in both cases a value would arrive as something else than its annotation says.
    """
    if annotation is inspect.Signature.empty:
        return Any
    try:
        kind = resolved(function, annotation)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UnreadableAnnotation(
            f"task {task!r}: the annotation of {name!r} cannot be read ({error}): what it names must be there at run time,"
            " at the top level of the module and not under `if TYPE_CHECKING`; or annotate with Any"
        ) from None
    if kind is Context or Context in typing.get_args(kind):
        return Context
    if kind in (typing.NoReturn, typing.Never, object):
        return Any
    reason = obstacle(kind)
    if reason is None:
        return kind
    stand_in = adapted(kind) if _contains_model(kind) else None
    if stand_in is None:
        raise TypeError(
            f"task {task!r}: the annotation of {name!r} cannot travel as JSON ({reason}): use types that JSON can be read as,"
            " such as dataclasses, msgspec structs and Pydantic models, or annotate with Any"
        )
    return stand_in


def resolved(function: Callable[..., Any], annotation: Any) -> Any:
    """Return an annotation of the function as a type, also if a part of it is a text, as in `list["Later"]`.

    Raises the error that Python raises for a text that stands for no type.
    """
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    holder = type("holder", (), {"__annotations__": {"it": annotation}})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]


def _contains_model(kind: Any) -> bool:
    return is_model(kind) or any(map(_contains_model, typing.get_args(kind)))
