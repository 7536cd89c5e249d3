"""Why a payload does not fit: the decoder's message, taken apart, and what the annotation says of the place, in words."""

from __future__ import annotations

import re
from typing import Any

from taskd.domain import constraints

_PLACE = re.compile(r" - at `\$([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
#: It has another type, or a text stands for none of this type. Of limits the decoder says more than `words` know.
_TYPE = re.compile(r"Expected `[^`]*`, got `[^`]*`|Invalid .*", re.DOTALL)


def misfit(error: Exception, kind: Any, payload: bytes, wanted: str, single: str = "") -> str:
    """Which argument does not fit, what it must be, and what came.

    `kind` is the struct of the arguments, and `wanted` names them. `single`: the error is of this one's value alone.
    """
    text = str(error)
    place = _PLACE.search(text)
    path = (single + (place.group(1) if place else "")).removeprefix(".")
    text = _PLACE.sub("", text)
    if found := _MISSING.fullmatch(text) or _UNKNOWN.fullmatch(text):
        argument = f"argument {path}{'.' if path else ''}{found.group(1)}"
        why = "is required" if found.re is _MISSING else "is not taken"
        return f"{argument}: {why}; it takes {wanted if not path else constraints.fields(kind, path)}"
    if not path:
        return text
    return f"argument {path}: {_rule(text, kind, path)}{constraints.instead(payload, path)}"


def _rule(text: str, kind: Any, path: str) -> str:
    try:
        return constraints.rule(kind, path) if _TYPE.fullmatch(text) else text
    except LookupError:  # in a mapping of anything, or beneath Pydantic's
        return text
