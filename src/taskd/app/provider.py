"""Providers: functions that make what tasks depend on, and what each task needs of them."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, Literal, NamedTuple

from taskd.app.annotations import resolved
from taskd.app.context import Context
from taskd.app.dependency import Want, bare, is_dependency, shown, wants
from taskd.app.task import Task

Per = Literal["executor", "attempt"]
_YIELDING = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)


class Provider:
    """A function that makes a value: returned, or yielded once by a generator, whose rest is what comes after the use."""

    def __init__(self, function: Callable[..., Any], name: str | None, kind: Any, per: Per) -> None:
        """Raises TypeError or ValueError for what cannot work."""
        if not callable(function):
            raise TypeError(f"a provider is a function, not {function!r}: app.testing(provide=...) takes values")
        self.function = function
        self.name = name if name is not None else shown(function)
        if per not in ("executor", "attempt"):
            raise ValueError(f"provider {self.name!r}: per is 'executor' or 'attempt', not {per!r}")
        self.per = per
        inner = inspect.unwrap(function)
        self._yielding = _yields(inner)
        #: What contextlib's decorators made of a generator function is entered, as that itself is.
        self.entered = self._yielding and not _yields(function)
        kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        self.asynchronous = any(check(one) for check in kinds for one in (inner, type(inner).__call__))
        self._kind = kind
        self._check_kind()
        self.context = self._context()

    def __repr__(self) -> str:
        return f"<Provider {self.name!r}>"

    @functools.cached_property
    def kind(self) -> Any:
        """The type of its value, by its return annotation; None if that does not tell."""
        if self._kind is not None:
            return bare(self._kind)
        if isinstance(self.function, type):
            return self.function
        found = self._annotation()
        if self._yielding and typing.get_origin(found) in _YIELDING:
            return bare(typing.get_args(found)[0])
        return found

    @functools.cached_property
    def wants(self) -> list[Want]:
        """What it depends on itself."""
        return wants(self.function)

    def _annotation(self) -> Any:
        """The return annotation; None without one, and while it names what is not there yet."""
        found = inspect.signature(self.function).return_annotation
        try:
            return bare(resolved(self.function, None if found is inspect.Signature.empty else found))
        except (NameError, AttributeError, TypeError, SyntaxError):
            return None

    def _check_kind(self) -> None:
        """Raises TypeError where the annotation says that something is yielded, and not what."""
        if self._kind is not None or not self._yielding:
            return
        found = self._annotation()
        if found in _YIELDING or (typing.get_origin(found) in _YIELDING and not typing.get_args(found)):
            what = shown(found)
            raise TypeError(f"provider {self.name!r}: -> {what} does not say of what: write it, as in -> {what}[Pool]")

    def _context(self) -> str | None:
        """The parameter that gets the attempt's Context. Raises TypeError for one that nobody fills."""
        context = None
        for parameter in inspect.signature(self.function).parameters.values():
            if self.per == "attempt" and context is None and _is_context(parameter):
                context = parameter.name
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                raise TypeError(
                    f"provider {self.name!r}: nobody fills its parameter {parameter.name!r}; mark what it depends on, as in "
                    "pool: Pool = taskd.Depends(). A provider with per='attempt' may also take ctx: taskd.Context"
                )
            elif is_dependency(parameter) and parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"provider {self.name!r}: {parameter.name!r} is positional-only, but is passed by name")
        return context


#: Who fills which parameter.
Sources = Mapping[str, Provider]


class Needs(NamedTuple):
    """What one task depends on: who fills its parameters, and those of providers; who is opened when, in that order."""

    parameters: Sources
    sources: Mapping[Provider, Sources]
    executor: list[Provider]
    attempt: list[Provider]


class Providers:
    """The providers of one App."""

    def __init__(self) -> None:
        self._by_name: dict[str, Provider] = {}

    def add(self, provider: Provider) -> None:
        """Raises ValueError if its name is taken."""
        if provider.name in self._by_name:
            raise ValueError(f"there is a provider named {provider.name!r} already: give this one another name=")
        self._by_name[provider.name] = provider

    def needs(self, task: Task[Any, Any], given: Collection[Provider] = ()) -> Needs:
        """What the task depends on, less what is `given`. Raises TypeError, with the mend, for what cannot be provided."""
        walk = _Walk(self, given)
        parameters = walk.sources_of(f"the task {task.name!r}", wants(task.function))
        for provider in walk.order:
            if provider.per == "attempt" and provider.asynchronous and not task.asynchronous:
                raise TypeError(
                    f"the task {task.name!r} is a plain function, which runs in a thread, and {provider.name!r} is opened "
                    f"for each attempt by an async function: make one of them like the other"
                )
        opened = {per: [one for one in walk.order if one.per == per] for per in ("executor", "attempt")}
        return Needs(parameters, walk.sources, opened["executor"], opened["attempt"])

    def find(self, key: Any, who: str = "app.testing(provide=...)") -> Provider:
        """The provider of this name, type or function. Raises TypeError if there is none, or more than one."""
        if isinstance(key, str):
            found = [one for name, one in self._by_name.items() if name == key]
        else:
            found = [one for one in self._by_name.values() if one.function is key and not isinstance(key, type)]
            found = found or [one for one in self._by_name.values() if one.kind is not None and one.kind == key]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(one.name for one in found)
            raise TypeError(
                f"{who} asks for {shown(key)}, which {names} provide: say which, as in Depends({found[0].name!r})"
            )
        raise TypeError(f"{who} asks for {key if isinstance(key, str) else shown(key)}, {self._missing(key)}")

    def _missing(self, key: Any) -> str:
        if isinstance(key, str):
            return f"and no provider has that name; there are: {', '.join(sorted(self._by_name)) or 'none'}"
        if inspect.isfunction(key):
            return "which is no provider of this app: write @app.provide above it"
        return f"which nothing provides: write @app.provide above a function that returns one (-> {shown(key)})"


class _Walk:
    """Everything that a task depends on, each after what it depends on itself."""

    def __init__(self, providers: Providers, given: Collection[Provider]) -> None:
        self._providers = providers
        self._given = given
        self._path: list[Provider] = []
        self.order: list[Provider] = []
        self.sources: dict[Provider, Sources] = {}

    def sources_of(self, who: str, wanted: list[Want]) -> Sources:
        """Who fills these parameters of a task or provider. Raises TypeError."""
        found = {}
        for want in wanted:
            found[want.parameter] = self._providers.find(want.key, f"{who}, parameter {want.parameter!r},")
            self._visit(found[want.parameter])
        return found

    def _visit(self, provider: Provider) -> None:
        if provider in self._path:
            circle = " -> ".join(one.name for one in [*self._path[self._path.index(provider) :], provider])
            raise TypeError(f"providers depend on each other in a circle ({circle}): one of them must do without")
        if provider in self._given or provider in self.order:
            return
        self._path.append(provider)
        sources = self.sources[provider] = self.sources_of(f"the provider {provider.name!r}", provider.wants)
        self._path.pop()
        short = next((one for one in sources.values() if one.per == "attempt" and one not in self._given), None)
        if provider.per == "executor" and short is not None:
            raise TypeError(
                f"the provider {provider.name!r} is opened once an executor and asks for {short.name!r}, which is opened "
                f"for each attempt: write @app.provide(per='attempt') for {provider.name!r} too"
            )
        self.order.append(provider)


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _is_context(parameter: inspect.Parameter) -> bool:
    found = parameter.annotation
    return parameter.name == "ctx" or found is Context or (isinstance(found, str) and found.split(".")[-1] == "Context")
