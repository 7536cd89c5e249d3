"""Messages for payloads that do not fit: the decoder's message, with the argument and the rule of its annotation."""

from __future__ import annotations

import re
from typing import Any

from taskd.domain import constraints

_PLACE = re.compile(r" - at `\$([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
#: The value has another type, or its text stands for no value of the type. For limits the decoder says more than `constraints`.
_TYPE = re.compile(r"Expected `[^`]*`, got `[^`]*`|Invalid .*", re.DOTALL)


def payload_error(error: Exception, kind: Any, payload: bytes, wanted: str, single: str = "") -> str:
    """Return which argument does not fit, what it must be, and the value that came.

    `kind` is the struct of the arguments, and `wanted` names them. `single`: the error is about the value of this argument.
    """
    text = str(error)
    place = _PLACE.search(text)
    path = (single + (place.group(1) if place else "")).removeprefix(".")
    text = _PLACE.sub("", text)
    if match := _MISSING.fullmatch(text) or _UNKNOWN.fullmatch(text):
        argument = f"argument {path}{'.' if path else ''}{match.group(1)}"
        why = "is required" if match.re is _MISSING else "is not taken"
        return f"{argument}: {why}; it takes {wanted if not path else constraints.fields(kind, path)}"
    if not path:
        return text
    return f"argument {path}: {_rule(text, kind, path)}{constraints.instead(payload, path)}"


def _rule(text: str, kind: Any, path: str) -> str:
    try:
        return constraints.rule(kind, path) if _TYPE.fullmatch(text) else text
    except LookupError:  # in a mapping of anything, or inside a model of Pydantic's
        return text
