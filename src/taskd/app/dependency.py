"""Dependencies: parameters that providers fill, marked by their default."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, NamedTuple, TypeVar, overload

from taskd.app.annotations import resolved

T = TypeVar("T")


class Dependency:
    """The result of `Depends`: marks a parameter. In a call of the function without that argument, its first use raises."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: object) -> None:
        self._wanted = wanted

    def __repr__(self) -> str:
        wanted = "" if self._wanted is None else getattr(self._wanted, "__name__", repr(self._wanted))
        return f"taskd.Depends({wanted})"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self!r} has no {name!r}: a worker and app.testing() fill this parameter; any other caller passes it"
        )


# The order matters: each says less than the one before.
@overload
def Depends() -> Any: ...
@overload
def Depends(wanted: str, /) -> Any: ...
@overload
def Depends(wanted: Callable[..., AbstractAsyncContextManager[T]], /) -> T: ...
@overload
def Depends(wanted: Callable[..., AbstractContextManager[T]], /) -> T: ...
@overload
def Depends(wanted: Callable[..., AsyncIterator[T]], /) -> T: ...
@overload
def Depends(wanted: Callable[..., Iterator[T]], /) -> T: ...
@overload
def Depends(wanted: Callable[..., Awaitable[T]], /) -> T: ...
@overload
def Depends(wanted: Callable[..., T], /) -> T: ...


def Depends(wanted: object = None, /) -> Any:
    """Let a worker fill this parameter: `pool: Pool = taskd.Depends()` with the value that is provided for its annotation.

    `Depends("replica")` names the provider. `Depends(open_pool)` is the provider itself: then type checkers compare its type
    with the annotation. A submit leaves the parameter out.
    """
    return Dependency(wanted)


class Want(NamedTuple):
    """One parameter that is a dependency, and its key: a type, a name, or a provider's function."""

    parameter: str
    key: Any


def is_dependency(parameter: inspect.Parameter) -> bool:
    """Return True if a provider fills the parameter."""
    return isinstance(parameter.default, Dependency)


def wants(function: Callable[..., Any]) -> list[Want]:
    """Return the dependencies of a function. Raises TypeError for one whose type cannot be read."""
    result = []
    for parameter in inspect.signature(function).parameters.values():
        if is_dependency(parameter):
            result.append(Want(parameter.name, parameter.default._wanted or _annotated(function, parameter)))
    return result


def shown(key: Any) -> str:
    """Return the name of a type or function, for a message."""
    return getattr(key, "__name__", None) or str(key)


def _annotated(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    advice = (
        f"annotate {parameter.name!r} with a type that is known when the module was imported, or write Depends('name')"
    )
    if parameter.annotation is inspect.Parameter.empty:
        raise TypeError(f"{shown(function)}: {parameter!s} does not say what it asks for: {advice}")
    try:
        return bare(resolved(function, parameter.annotation))
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise TypeError(
            f"{shown(function)}: the annotation of {parameter!s} cannot be read ({error}): {advice}"
        ) from None


def bare(annotation: Any) -> Any:
    """Return the type without the metadata that Annotated adds."""
    return annotation.__origin__ if typing.get_origin(annotation) is typing.Annotated else annotation
