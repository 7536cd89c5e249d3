"""Pydantic models as arguments. taskd does not need Pydantic: where a model is, somebody else has imported it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def is_model(kind: Any) -> bool:
    """Whether this is a class of Pydantic models."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def encoded(value: Any) -> Any:
    """For msgspec, which knows no models: what stands for this value. Raises TypeError for what is no model either."""
    if not is_model(type(value)):
        raise TypeError(f"an object of type {type(value).__name__} is no JSON")
    return msgspec.Raw(value.model_dump_json(by_alias=True).encode())


def decoded(kind: type, value: Any) -> Any:
    """For msgspec: the model for this value. Raises ValueError, naming the fields, for a value that does not fit."""
    if not is_model(kind):
        return value  # msgspec refuses it: it is no `kind`
    pydantic = sys.modules["pydantic"]
    try:
        # As JSON, because a strict model takes a date's text from JSON only.
        return kind.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined]  # a model has it
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(_line(one["loc"], one["msg"]) for one in found)) from None


def _line(place: tuple[str | int, ...], message: str) -> str:
    return f"`{'.'.join(map(str, place))}`: {message}" if place else message
