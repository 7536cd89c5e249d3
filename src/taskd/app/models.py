"""Pydantic models as values. taskd does not depend on Pydantic: code that has a model has imported it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def is_model(kind: Any) -> bool:
    """Return True for a class of Pydantic models."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


class _EveryInstance(type):
    """Metaclass of a stand-in for a type: every value that msgspec asks about is its instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


class Adapted(metaclass=_EveryInstance):
    """Base class of stand-ins for types that only Pydantic can read: unions with models. Each type gets a subclass."""

    adapter: Any


def adapted(kind: Any) -> _EveryInstance | None:
    """Return a stand-in for a type that msgspec refuses; None if Pydantic is not imported, or refuses it too."""
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
    """Return the JSON of a model. Computed fields are left out if the model would refuse to read them."""
    text: str = value.model_dump_json(by_alias=True, round_trip=_forbids(type(value)))
    return text.encode()


def _forbids(kind: Any) -> bool:
    return bool(kind.model_computed_fields) and kind.model_config.get("extra") == "forbid"


def unreadable(kind: Any) -> str | None:
    """Return why a model of this class cannot be read from its own JSON; None if nothing is known against it."""
    config = kind.model_config
    validators = kind.__pydantic_decorators__.model_validators.values()
    if any(validator.info.mode != "after" for validator in validators):  # its own code decides what it is read from
        return None
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    for name, field in kind.model_fields.items():
        written = field.serialization_alias or name
        alias = field.validation_alias
        read = {choice for choice in getattr(alias, "choices", [alias or name]) if isinstance(choice, str)}
        if field.exclude or written in read or (by_name and written == name):
            continue
        return f"its field {name!r} is written as {written!r}, which is not what it is read from"
    return None


def model_from(kind: Any, value: Any) -> Any:
    """Return the model for decoded JSON. Raises ValueError, naming the fields, for a value that does not fit."""
    pydantic = sys.modules["pydantic"]
    # As JSON, because a strict model takes a date's text from JSON only.
    text = msgspec.json.encode(value)
    try:
        return kind.adapter.validate_json(text) if is_adapted(kind) else kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(_line(detail["loc"], detail["msg"]) for detail in errors)) from None


def _line(place: tuple[str | int, ...], message: str) -> str:
    return f"`{'.'.join(map(str, place))}`: {message}" if place else message
