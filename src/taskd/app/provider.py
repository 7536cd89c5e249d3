"""Providers: functions that make the dependencies of tasks; and the providers that each task needs."""

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
    """A function that makes a value: it returns it, or is a generator that yields it once and closes it after its use."""

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
        #: A generator function that has one of contextlib's decorators returns a context manager.
        self.entered = self._yielding and not _yields(function)
        kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        self.asynchronous = any(check(function) for check in kinds for function in (inner, type(inner).__call__))
        self._kind = kind
        self._check_kind()
        self.context = self._context()

    def __repr__(self) -> str:
        return f"<Provider {self.name!r}>"

    @functools.cached_property
    def kind(self) -> Any:
        """The type of its value, by its return annotation; None if that does not say."""
        if self._kind is not None:
            return bare(self._kind)
        if isinstance(self.function, type):
            return self.function
        annotation = self._annotation()
        if self._yielding and typing.get_origin(annotation) in _YIELDING:
            return bare(typing.get_args(annotation)[0])
        return annotation

    @functools.cached_property
    def wants(self) -> list[Want]:
        """Dependencies of the provider itself."""
        return wants(self.function)

    def _annotation(self) -> Any:
        """Return the return annotation; None without one, and while it names something that is not defined yet."""
        annotation = inspect.signature(self.function).return_annotation
        try:
            return bare(resolved(self.function, None if annotation is inspect.Signature.empty else annotation))
        except (NameError, AttributeError, TypeError, SyntaxError):
            return None

    def _check_kind(self) -> None:
        """Raise TypeError for an annotation such as Iterator, without the type of the value that is yielded."""
        if self._kind is not None or not self._yielding:
            return
        annotation = self._annotation()
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if annotation in _YIELDING or (origin in _YIELDING and not args):
            kind = shown(annotation)
            raise TypeError(f"provider {self.name!r}: -> {kind} does not say of what: write it, as in -> {kind}[Pool]")

    def _context(self) -> str | None:
        """Return the parameter that gets the attempt's Context. Raises TypeError for one that has no value."""
        context = None
        for parameter in inspect.signature(self.function).parameters.values():
            if self.per == "attempt" and context is None and _is_context(parameter):
                context = parameter.name
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                raise TypeError(
                    f"provider {self.name!r}: nothing fills its parameter {parameter.name!r}; mark what it depends on, as in "
                    "pool: Pool = taskd.Depends(). A provider with per='attempt' may also take ctx: taskd.Context"
                )
            elif is_dependency(parameter) and parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"provider {self.name!r}: {parameter.name!r} is positional-only, but is passed by name")
        return context


#: The provider of each parameter, by its name.
Sources = Mapping[str, Provider]


class Needs(NamedTuple):
    """The dependencies of one task: the providers of its parameters, and of their own.

    `executor` and `attempt` are the providers to open for each, in that order.
    """

    parameters: Sources
    sources: Mapping[Provider, Sources]
    executor: list[Provider]
    attempt: list[Provider]


class Providers:
    """The providers of one App."""

    def __init__(self) -> None:
        self._by_name: dict[str, Provider] = {}

    def add(self, provider: Provider) -> None:
        """Add a provider. Raises ValueError if its name is taken."""
        if provider.name in self._by_name:
            raise ValueError(f"there is a provider named {provider.name!r} already: give this one another name=")
        self._by_name[provider.name] = provider

    def needs(self, task: Task[..., Any], given: Collection[Provider] = ()) -> Needs:
        """Return what the task depends on, except the `given` providers.

        Raises TypeError, which says what to change, for a dependency that cannot be provided.
        """
        walk = _Walk(self, given)
        parameters = walk.sources_of(f"the task {task.name!r}", wants(task.function))
        for provider in walk.order:
            if provider.per == "attempt" and provider.asynchronous and not task.asynchronous:
                raise TypeError(
                    f"the task {task.name!r} is a plain function, which runs in a thread, and {provider.name!r} is opened "
                    f"for each attempt by an async function: make one of them like the other"
                )
        opened = {per: [provider for provider in walk.order if provider.per == per] for per in ("executor", "attempt")}
        return Needs(parameters, walk.sources, opened["executor"], opened["attempt"])

    def find(self, key: Any, asker: str = "app.testing(provide=...)") -> Provider:
        """Return the provider of this name, type or function. Raises TypeError if there is none, or more than one.

        `asker` is the subject of the error's message.
        """
        if isinstance(key, str):
            matches = [provider for name, provider in self._by_name.items() if name == key]
        else:
            providers = self._by_name.values()
            matches = [p for p in providers if p.function is key and not isinstance(key, type)]
            matches = matches or [p for p in providers if p.kind is not None and p.kind == key]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(provider.name for provider in matches)
            raise TypeError(
                f"{asker} asks for {shown(key)}, which {names} provide: say which, as in Depends({matches[0].name!r})"
            )
        raise TypeError(f"{asker} asks for {key if isinstance(key, str) else shown(key)}, {self._missing(key)}")

    def _missing(self, key: Any) -> str:
        if isinstance(key, str):
            return f"and no provider has that name; there are: {', '.join(sorted(self._by_name)) or 'none'}"
        if inspect.isfunction(key):
            return "which is no provider of this app: write @app.provide above it"
        return f"which nothing provides: write @app.provide above a function that returns one (-> {shown(key)})"


class _Walk:
    """Collects everything that a task depends on, each provider after its own dependencies."""

    def __init__(self, providers: Providers, given: Collection[Provider]) -> None:
        self._providers = providers
        self._given = given
        self._path: list[Provider] = []
        self.order: list[Provider] = []
        self.sources: dict[Provider, Sources] = {}

    def sources_of(self, owner: str, wanted: list[Want]) -> Sources:
        """Return the providers of these parameters of a task or provider. Raises TypeError."""
        sources = {}
        for want in wanted:
            sources[want.parameter] = self._providers.find(want.key, f"{owner}, parameter {want.parameter!r},")
            self._visit(sources[want.parameter])
        return sources

    def _visit(self, provider: Provider) -> None:
        if provider in self._path:
            circle = " -> ".join(step.name for step in [*self._path[self._path.index(provider) :], provider])
            raise TypeError(f"providers depend on each other in a circle ({circle}): one of them must do without")
        if provider in self._given or provider in self.order:
            return
        self._path.append(provider)
        sources = self.sources[provider] = self.sources_of(f"the provider {provider.name!r}", provider.wants)
        self._path.pop()
        shorter = next((s for s in sources.values() if s.per == "attempt" and s not in self._given), None)
        if provider.per == "executor" and shorter is not None:
            raise TypeError(
                f"the provider {provider.name!r} is opened once an executor and asks for {shorter.name!r}, which is opened "
                f"for each attempt: write @app.provide(per='attempt') for {provider.name!r} too"
            )
        self.order.append(provider)


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _is_context(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str) and annotation.split(".")[-1] == "Context":
        return True
    return parameter.name == "ctx" or annotation is Context
