"""Payloads of tasks: made from a call's arguments, and checked against the function's annotations before the function runs."""

from __future__ import annotations

import contextlib
import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from taskd.app.annotations import UnreadableAnnotation, checkable
from taskd.app.context import Context
from taskd.app.dependency import is_dependency
from taskd.app.equality import alike
from taskd.app.payload_errors import payload_error
from taskd.app.values import decoded, encoded
from taskd.domain.errors import Fail

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
    """Converts between payloads of one task and arguments of its function.

    A JSON object gives the keyword arguments; any other value is the single argument. A function with both `*args` and
    `**kwargs` takes any payload. Annotations are read by `prepare` or at the first use, when everything they name has been
    defined.
    """

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises TypeError for a signature that no payload can be passed to, and for types that cannot travel as JSON."""
        self._task = task
        self._function = function
        self._plan: _Plan | None = None
        _check_signature(task, inspect.signature(function))
        with contextlib.suppress(UnreadableAnnotation):  # of a later definition: the start of the app prepares again
            self.prepare()

    def prepare(self) -> _Plan:
        """Read the annotations. Raises TypeError for one that cannot be read."""
        self._plan = _Plan(self._task, self._function)
        return self._plan

    def bind(self, payload: bytes, context: Callable[[], Context]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments for this payload (JSON). Raises Fail, naming the field, for a payload that does not fit."""
        plan = self._plan or self.prepare()
        try:
            args, kwargs = _read(plan, payload)
        except _DoesNotFit as why:
            raise Fail(f"the payload does not fit the task {self._task!r}: {why}") from None
        if plan.context is not None:
            if plan.context_first:
                args.insert(0, context())
            else:
                kwargs[plan.context] = context()
        return args, kwargs

    def payload(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Return the payload (JSON) from which `bind` makes these arguments, without the context.

        Raises TypeError, naming the argument, for one that the function does not take or that would arrive as another value.
        """
        plan = self._plan or self.prepare()
        try:
            sent = plan.given(args, kwargs)
            text = _written(*sent)
            arrived = _read(plan, text)
            _compare(sent, arrived)
        except (_DoesNotFit, TypeError) as why:
            raise TypeError(f"task {self._task!r} cannot be submitted like this: {why}") from None
        return text


class _DoesNotFit(Exception):
    """The reason why a payload does not fit, or why arguments make no payload."""


def _read(plan: _Plan, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments without the context. Raises _DoesNotFit."""
    stripped = payload.strip()
    try:
        if stripped[:1] == b"{":
            return [], plan.fields(payload)
        return _single(plan, payload, stripped)
    except msgspec.MsgspecError as error:
        raise _DoesNotFit(payload_error(error, plan.struct, payload, plan.wanted())) from None
    except RecursionError:
        raise _DoesNotFit("it is nested too deeply") from None


def _single(plan: _Plan, payload: bytes, stripped: bytes) -> tuple[list[Any], dict[str, Any]]:
    if plan.single is None and plan.spread is None:
        if not plan.names and stripped == b"null":
            return [], {}
        raise _DoesNotFit(f"it takes {plan.wanted()}, got {_JSON.get(stripped[0] if stripped else 0, 'a number')}")
    try:
        value = msgspec.json.decode(payload, type=plan.single_type, dec_hook=decoded)
    except msgspec.ValidationError as error:
        if plan.single is None:
            raise
        named = b"{%b:%b}" % (msgspec.json.encode(plan.single), payload)
        raise _DoesNotFit(payload_error(error, plan.struct, named, plan.wanted(), plan.single)) from None
    return ([value], {}) if plan.single is None else ([], {plan.single: value})


def _written(values: Sequence[Any], fields: Mapping[str, Any]) -> bytes:
    """Return the payload for these arguments. Raises _DoesNotFit."""
    if values:
        return _encode("", values[0])
    return msgspec.json.encode({name: msgspec.Raw(_encode(name, value)) for name, value in fields.items()})


def _encode(name: str, value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=encoded)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _DoesNotFit(f"{_argument(name)}: {error}") from None


def _compare(sent: tuple[Sequence[Any], Mapping[str, Any]], arrived: tuple[Sequence[Any], Mapping[str, Any]]) -> None:
    """Raise _DoesNotFit for the first argument that would arrive as another value: JSON has no tuples, for instance."""
    values, fields = sent
    if len(values) != len(arrived[0]):
        raise _DoesNotFit("a value that becomes a JSON object arrives as keyword arguments: pass them as such")
    pairs = [("", value, other) for value, other in zip(values, arrived[0], strict=True)]
    pairs += [(name, value, arrived[1][name]) for name, value in fields.items()]
    for name, value, other in pairs:
        if not alike(value, other):
            change = f"{reprlib.repr(value)} would arrive as {reprlib.repr(other)}"
            raise _DoesNotFit(f"{_argument(name)}: {change}; an annotation with its type may help")


def _argument(name: str) -> str:
    return f"argument {name!r}" if name else "the argument"


class _Plan:
    """A signature with its annotations read: the parameter that gets the context, and decoders for the others."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        filled = {p.name for p in parameters if is_dependency(p)}
        types = {
            p.name: checkable(task, function, p.name, p.annotation)
            for p in parameters
            if p.name not in filled and not _is_ctx(p)
        }
        self.context = next((p.name for p in parameters if _wants_context(p, types.get(p.name))), None)
        self.context_first = bool(parameters) and parameters[0].name == self.context
        self.context_first = self.context_first and parameters[0].kind is not Parameter.KEYWORD_ONLY
        others = [p for p in parameters if p.name != self.context and p.name not in filled]
        self._signature = signature.replace(parameters=others)
        named = [p for p in others if p.kind in _NAMED]
        self._reserved = {p.name for p in parameters if p.name == self.context and p.kind is not p.POSITIONAL_ONLY}
        self._filled = filled
        self._reserved |= filled
        rest = self._rest_name = next((p.name for p in parameters if p.kind is Parameter.VAR_KEYWORD), None)
        self.spread = next((p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None)
        self.names = [p.name for p in named]
        self.required = [p.name for p in named if p.default is Parameter.empty]
        self._taken, self._needed = frozenset(self.names), frozenset(self.required)
        self._fixed = rest is None and self.spread is None
        self.single = self.names[0] if self.names and len(self.required) <= 1 else None
        if len(self.required) == 1:
            self.single = self.required[0]
        taker = self.single or self.spread
        self.single_type = types[taker] if taker is not None else Any
        self.struct = _struct(task, named, types, strict=rest is None)
        self._decoder = msgspec.json.Decoder(self.struct, dec_hook=decoded)
        self._rest = msgspec.json.Decoder(dict[str, Any]) if rest is not None else None
        self._rest_type = types[rest] if rest is not None else Any

    def fields(self, payload: bytes) -> dict[str, Any]:
        """Return the keyword arguments for a JSON object."""
        struct = self._decoder.decode(payload)
        kwargs = {name: value for name in self.names if (value := getattr(struct, name)) is not _ABSENT}
        if self._rest is not None:
            for name, value in self._rest.decode(payload).items():
                if name in self._reserved:
                    raise msgspec.ValidationError(f"Object contains unknown field `{name}`")
                if name not in kwargs:
                    kwargs[name] = value if self._rest_type is Any else self._convert(name, value)
        return kwargs

    def given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return a call's arguments as a payload can have them: one value, or fields. Raises TypeError, _DoesNotFit."""
        if wrong := self._filled.intersection(kwargs):
            raise _DoesNotFit(
                f"{min(wrong)!r} is a dependency: the worker fills it, and app.testing(provide=...) in a test"
            )
        if not args and self._fixed and self._needed <= kwargs.keys() <= self._taken:
            # The same result as bind's, which takes half of the time of a submit_many.
            return (), {name: kwargs[name] for name in self.names if name in kwargs}
        unknown = [name for name in kwargs if name not in self._taken] if self._rest_name is None else []
        if unknown:
            # bind would name the missing argument, which is often the same mistake, and not the unknown one
            raise _DoesNotFit(
                f"got an unexpected keyword argument {unknown[0]!r}; it takes {', '.join(self.names) or 'none'}"
            )
        fields: dict[str, Any] = self._signature.bind(*args, **kwargs).arguments
        values = fields.pop(self.spread, ()) if self.spread is not None else ()
        if self._rest_name is not None:
            fields |= fields.pop(self._rest_name, {})
        if values and (fields or len(values) > 1):
            raise _DoesNotFit("a payload is one value, or keyword arguments, so there is no place for more values")
        return values, fields

    def wanted(self) -> str:
        """Return the description of a payload that fits."""
        if not self.names and self._rest is not None:
            return "a JSON object"
        if not self.names:
            return "no arguments, so its payload is {} or null"
        return "a JSON object with the fields " + ", ".join(f"`{name}`" for name in self.names)

    def _convert(self, name: str, value: Any) -> Any:
        try:
            return msgspec.convert(value, self._rest_type, dec_hook=decoded)
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


def _wants_context(parameter: Parameter, kind: Any) -> bool:
    return kind is Context or _is_ctx(parameter)


def _is_ctx(parameter: inspect.Parameter) -> bool:
    """Return True for a parameter named `ctx`, whatever its annotation: linters want its import under `if TYPE_CHECKING`."""
    return parameter.name == "ctx" and parameter.kind in _NAMED


def _struct(task: str, named: list[Parameter], types: dict[str, Any], *, strict: bool) -> type[msgspec.Struct]:
    fields = [
        (p.name, types[p.name]) if p.default is Parameter.empty else (p.name, types[p.name], _ABSENT) for p in named
    ]
    return msgspec.defstruct(f"{task} payload", fields, kw_only=True, forbid_unknown_fields=strict)
