"""From JSON to a struct, where each refusal names its field and says what it must be, in words that a client understands."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from taskd.api.problems import FieldError, invalid, malformed
from taskd.api.strictjson import explain, too_deep
from taskd.domain.job import MAX_NAME, NAME, NAME_RULE

T = TypeVar("T", bound=msgspec.Struct)

#: The name of a queue or a task.
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, pattern=NAME)]


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, prefix: str = "") -> T:
    """What `body` (UTF-8) says; `prefix` stands before field names. Raises 400 and 422 Problems."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(_field_error(str(error), prefix, decoder.type)) from None
    except msgspec.DecodeError as error:
        raise malformed(f"{prefix}{': ' if prefix else ''}{explain(error, bytes(body))}") from None
    except RecursionError:
        raise invalid(too_deep(f"{prefix}payload")) from None


_MISSING = re.compile(r"^Object missing required field `([^`]*)`", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*?)`(?: - at `|$)", re.DOTALL)
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_MESSAGES = (
    ("matching regex", NAME_RULE),
    ("timezone component", "needs an offset, as in 2026-01-31T12:00:00Z or …+01:00: without one it names no instant"),
    ("Invalid RFC3339", "must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z"),
    ("datetime", "must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z"),
)


def _field_error(text: str, prefix: str, kind: Any) -> FieldError:
    """The decoder's message, taken apart into the field and what it must be."""
    place = _PLACE.search(text)
    path = place.group(1).replace("[...]", "") if place else ""
    inner = f"{path}." if path else ""
    if unknown := _UNKNOWN.match(text):
        known = ", ".join(f.name for f in msgspec.structs.fields(_struct_at(kind, path)))
        return FieldError(f"{prefix}{inner}{unknown.group(1)}", f"is no field; the fields are {known}")
    if missing := _MISSING.match(text):
        return FieldError(f"{prefix}{inner}{missing.group(1)}", "is required")
    message = text[: place.start()] if place else text
    if message.startswith("Invalid enum value") and (choices := _choices(kind, path)):
        return FieldError(f"{prefix}{path}", f"must be one of {', '.join(choices)}")
    for part, better in _MESSAGES:
        if part in message:
            return FieldError(f"{prefix}{path}", better)
    field = f"{prefix}{path}" if path else prefix.rstrip(".") or "body"
    return FieldError(field, message.replace("Expected", "expected", 1).replace("Number", "number", 1))


def _choices(kind: Any, path: str) -> list[str]:
    """What the field at `path` may be: the values of an enum, or of a Literal."""
    struct, _, name = path.rpartition(".")
    hint = get_type_hints(_struct_at(kind, struct)).get(name)
    found: list[str] = []
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and issubclass(one, Enum):
            found += [str(member.value) for member in one]
        elif get_origin(one) is Literal:
            found += map(str, get_args(one))
    return found


def _struct_at(kind: Any, path: str) -> Any:
    """The struct that is at `path` (dots between fields) of the struct `kind`."""
    for name in filter(None, path.split(".")):
        hint = get_type_hints(kind).get(name)
        kind = next((a for a in (hint, *get_args(hint)) if isinstance(a, type) and issubclass(a, msgspec.Struct)), kind)
    return kind
