"""From JSON to a struct. Each error names its field and says what the field must be, in the terms of the API."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from taskd.api.problems import FieldError, invalid, malformed
from taskd.api.strictjson import explain, too_deep
from taskd.domain import constraints

T = TypeVar("T", bound=msgspec.Struct)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, prefix: str = "") -> T:
    """Return `body` (UTF-8) as a struct. `prefix` stands before field names in errors. Raises 400 and 422 Problems."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(_field_error(str(error), prefix, decoder.type, bytes(body))) from None
    except msgspec.DecodeError as error:
        raise malformed(f"{prefix}{': ' if prefix else ''}{explain(error, bytes(body))}") from None
    except RecursionError:
        raise invalid(too_deep(f"{prefix}payload")) from None


_MISSING = re.compile(r"^Object missing required field `([^`]*)`", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*?)`(?: - at `|$)", re.DOTALL)
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_NO_OFFSET = "needs an offset, as in 2026-01-31T12:00:00Z or …+01:00: without one it names no instant"
#: Rules that the type alone does not state, by the last part of the field's path.
_RULES = {
    "metadata": "must be an object of at most 64 texts, numbers, true, false and null, by keys of 1 to 255 characters"
}


def _field_error(text: str, prefix: str, kind: Any, body: bytes) -> FieldError:
    """Return the decoder's message as a field and the rule that it breaks."""
    place = _PLACE.search(text)
    path = place.group(1).replace("[...]", "") if place else ""
    inner = f"{path}." if path else ""
    if unknown := _UNKNOWN.match(text):
        return FieldError(
            f"{prefix}{inner}{unknown.group(1)}", f"is not a field; the fields are {constraints.fields(kind, path)}"
        )
    if missing := _MISSING.match(text):
        return FieldError(f"{prefix}{inner}{missing.group(1)}", "is required")
    field = f"{prefix}{path}" if path else prefix.rstrip(".") or "body"
    if "timezone component" in text:
        return FieldError(field, _NO_OFFSET)
    rule = _RULES.get(path.rpartition(".")[2]) or constraints.rule(kind, path)
    return FieldError(field, f"{rule}{constraints.instead(body, path)}")
