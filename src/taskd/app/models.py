"""Pydantic models as values. taskd does not need Pydantic: where a model is, the user's code has imported it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def is_model(kind: Any) -> bool:
    """Return True for a class of Pydantic models."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


class _EveryInstance(type):
    """Metaclass of a stand-in for a type: msgspec asks it whether a decoded value is its instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


class Adapted(metaclass=_EveryInstance):
    """Stand-in, as a subclass for each, for a type that only Pydantic can tell apart: a union with models."""

    adapter: Any


def adapted(kind: Any) -> _EveryInstance | None:
    """Return a stand-in for a type that msgspec refuses; None where Pydantic is not in use, or refuses it too."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return None
    try:
        adapter = pydantic.TypeAdapter(kind)
    except pydantic.errors.PydanticUserError:
        return None
    return _EveryInstance(str(kind), (Adapted,), {"adapter": adapter})


def is_adapted(kind: Any) -> bool:
    """Return True for a stand-in."""
    return isinstance(kind, _EveryInstance)


def model_text(value: Any) -> bytes:
    """Return the JSON of a model."""
    text: str = value.model_dump_json(by_alias=True)
    return text.encode()


def model_from(kind: Any, value: Any) -> Any:
    """Return the model for decoded JSON. Raises ValueError, naming the fields, for a value that does not fit."""
    pydantic = sys.modules["pydantic"]
    # As JSON, because a strict model takes a date's text from JSON only.
    text = msgspec.json.encode(value)
    try:
        return kind.adapter.validate_json(text) if is_adapted(kind) else kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(_line(one["loc"], one["msg"]) for one in found)) from None


def _line(place: tuple[str | int, ...], message: str) -> str:
    return f"`{'.'.join(map(str, place))}`: {message}" if place else message
