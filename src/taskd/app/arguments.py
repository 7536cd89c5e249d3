"""From a payload to a call: the payload is checked against the function's annotations before the function runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from taskd.app.context import Context
from taskd.domain.errors import Fail
from taskd.runtime.log import logger

Parameter = inspect.Parameter
_ABSENT: Any = object()
_JSON = {
    ord("["): "an array",
    ord('"'): "a string",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
    ord("n"): "null",
}


class Arguments:
    """How one task's payload becomes the arguments of its function.

    A JSON object gives the keyword arguments; any other value is the single argument. A function with both `*args` and
    `**kwargs` takes any payload. Annotations are read at the first use, when everything they name has been defined.
    """

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises TypeError for a signature that no payload can be passed to."""
        self._task = task
        self._function = function
        self._plan: _Plan | None = None
        _check_signature(task, inspect.signature(function))

    def bind(self, payload: bytes, context: Callable[[], Context]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for this payload (JSON). Raises Fail, naming the field, for a payload that does not fit."""
        plan = self._plan or self._prepare()
        stripped = payload.strip()
        try:
            args: list[Any] = []
            if stripped[:1] == b"{":
                kwargs = plan.fields(payload)
            else:
                args, kwargs = self._single(plan, payload, stripped)
        except msgspec.MsgspecError as error:
            raise self._misfit(str(error)) from None
        except RecursionError:
            raise self._misfit("it is nested too deeply") from None
        if plan.context is not None:
            if plan.context_first:
                args.insert(0, context())
            else:
                kwargs[plan.context] = context()
        return args, kwargs

    def _single(self, plan: _Plan, payload: bytes, stripped: bytes) -> tuple[list[Any], dict[str, Any]]:
        if plan.single is None and plan.spread is None:
            if not plan.names and stripped == b"null":
                return [], {}
            raise self._misfit(f"it takes {plan.wanted()}, got {_JSON.get(stripped[0] if stripped else 0, 'a number')}")
        try:
            value = msgspec.json.decode(payload, type=plan.single_type)
        except msgspec.ValidationError as error:
            raise self._misfit(f"{error} (field `{plan.single or plan.spread}`)") from None
        return ([value], {}) if plan.single is None else ([], {plan.single: value})

    def _misfit(self, why: str) -> Fail:
        return Fail(f"the payload does not fit the task {self._task!r}: {why}")

    def _prepare(self) -> _Plan:
        self._plan = _Plan(self._task, self._function)
        return self._plan


class _Plan:
    """A signature, resolved: which parameter gets the context, and decoders for the others."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        types = {p.name: _annotation(task, function, p) for p in parameters}
        self.context = next((p.name for p in parameters if _wants_context(p, types[p.name])), None)
        self.context_first = bool(parameters) and parameters[0].name == self.context
        self.context_first = self.context_first and parameters[0].kind is not Parameter.KEYWORD_ONLY
        named = [p for p in parameters if p.kind in _NAMED and p.name != self.context]
        rest = next((p.name for p in parameters if p.kind is Parameter.VAR_KEYWORD), None)
        self.spread = next((p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None)
        self.names = [p.name for p in named]
        self.required = [p.name for p in named if p.default is Parameter.empty]
        self.single = self.names[0] if self.names and len(self.required) <= 1 else None
        if len(self.required) == 1:
            self.single = self.required[0]
        taker = self.single or self.spread
        self.single_type = types[taker] if taker is not None else Any
        self._decoder = msgspec.json.Decoder(_struct(task, named, types, strict=rest is None))
        self._rest = msgspec.json.Decoder(dict[str, Any]) if rest is not None else None
        self._rest_type = types[rest] if rest is not None else Any

    def fields(self, payload: bytes) -> dict[str, Any]:
        """The keyword arguments for a JSON object."""
        found = self._decoder.decode(payload)
        kwargs = {name: value for name in self.names if (value := getattr(found, name)) is not _ABSENT}
        if self._rest is not None:
            for name, value in self._rest.decode(payload).items():
                if name not in kwargs:
                    kwargs[name] = value if self._rest_type is Any else self._convert(name, value)
        return kwargs

    def wanted(self) -> str:
        """What the payload should have been, in words."""
        if not self.names and self._rest is not None:
            return "a JSON object"
        if not self.names:
            return "no arguments, so its payload is {} or null"
        return "a JSON object with the fields " + ", ".join(f"`{name}`" for name in self.names)

    def _convert(self, name: str, value: Any) -> Any:
        try:
            return msgspec.convert(value, self._rest_type)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(f"{error} (field `{name}`)") from None


_NAMED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _check_signature(task: str, signature: inspect.Signature) -> None:
    parameters = list(signature.parameters.values())
    kinds = {p.kind for p in parameters}
    if Parameter.VAR_POSITIONAL in kinds and Parameter.VAR_KEYWORD not in kinds:
        raise TypeError(f"task {task!r}: a payload's fields have names, so *args alone cannot take them; name them")
    for place, parameter in enumerate(parameters):
        first_context = place == 0 and (parameter.name == "ctx" or "Context" in str(parameter.annotation))
        if parameter.kind is Parameter.POSITIONAL_ONLY and not first_context:
            raise TypeError(
                f"task {task!r}: {parameter.name!r} is positional-only, but payload fields are passed by name"
            )


def _wants_context(parameter: Parameter, annotation: Any) -> bool:
    if annotation is Context or (typing.get_args(annotation) and Context in typing.get_args(annotation)):
        return True
    return parameter.name == "ctx" and parameter.kind in _NAMED


def _annotation(task: str, function: Callable[..., Any], parameter: Parameter) -> Any:
    """The parameter's type as msgspec can check it; Any where it cannot."""
    found = parameter.annotation
    if found is Parameter.empty:
        return Any
    if isinstance(found, str):
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        try:
            holder = type("holder", (), {"__annotations__": {"it": found}})
            found = typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            logger().warning("argument is passed unchecked", task=task, argument=parameter.name, reason=str(error))
            return Any
    if found is Context or Context in typing.get_args(found):
        return Context
    return found if _checkable(found) else Any


def _checkable(annotation: Any) -> bool:
    """True if msgspec can build every part of this type from JSON."""
    try:
        msgspec.json.Decoder(annotation)
        if isinstance(annotation, type) and not typing.get_args(annotation):
            return not isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType)
    except (TypeError, NameError):
        return False
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return True
    if typing.get_origin(annotation) is typing.Annotated:
        parts = parts[:1]
    return all(part is Ellipsis or part is None or _checkable(part) for part in parts)


def _struct(task: str, named: list[Parameter], types: dict[str, Any], *, strict: bool) -> type[msgspec.Struct]:
    fields = [
        (p.name, types[p.name]) if p.default is Parameter.empty else (p.name, types[p.name], _ABSENT) for p in named
    ]
    return msgspec.defstruct(f"{task} payload", fields, kw_only=True, forbid_unknown_fields=strict)
