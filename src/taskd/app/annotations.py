"""What a function's annotations say of a value: a type that msgspec can build from JSON, or nothing."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from taskd.app.context import Context
from taskd.app.models import is_model


def annotation(task: str, function: Callable[..., Any], name: str, found: Any) -> Any:
    """The type that `found` stands for, as msgspec can check it; Any where it cannot. `name`: what has this annotation.

    Raises TypeError for a text that stands for no type: unchecked, a date would arrive as a text one day.
    """
    if found is inspect.Signature.empty:
        return Any
    try:
        found = resolved(function, found)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise TypeError(
            f"task {task!r}: the annotation of {name!r} cannot be read ({error}): what it names must be there at run time,"
            " at the top level of the module and not under `if TYPE_CHECKING`; or annotate with Any"
        ) from None
    if found is Context or Context in typing.get_args(found):
        return Context
    return found if _checkable(found) else Any


def resolved(function: Callable[..., Any], found: Any) -> Any:
    """An annotation of the function's as a type. Raises what Python raises for a text that is none."""
    if not isinstance(found, str):
        return found
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    holder = type("holder", (), {"__annotations__": {"it": found}})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]


def _checkable(found: Any) -> bool:
    """True if every part of this type can be built from JSON."""
    try:
        msgspec.json.Decoder(found)
        if isinstance(found, type) and not typing.get_args(found):
            return is_model(found) or not isinstance(msgspec.inspect.type_info(found), msgspec.inspect.CustomType)
    except (TypeError, NameError):
        return False
    parts = typing.get_args(found)
    if typing.get_origin(found) is typing.Literal:
        return True
    if typing.get_origin(found) is typing.Annotated:
        parts = parts[:1]
    return all(part is Ellipsis or part is None or _checkable(part) for part in parts)
