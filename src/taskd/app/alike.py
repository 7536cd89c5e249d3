"""Whether a value that travelled is still the one that was sent."""

from __future__ import annotations

from typing import Any

from taskd.app.models import is_model


def alike(sent: Any, arrived: Any) -> bool:
    """True for equal values, and for objects of one class where equality cannot tell: what is in them was checked already."""
    if sent == arrived:
        return True
    if type(sent) is not type(arrived):
        return False
    if isinstance(sent, list | tuple):
        return len(sent) == len(arrived) and all(map(alike, sent, arrived))
    if isinstance(sent, dict):
        return sent.keys() == arrived.keys() and all(alike(value, arrived[key]) for key, value in sent.items())
    if is_model(type(sent)):  # its private attributes count for equality, and are not meant to travel
        return bool(sent.model_dump() == arrived.model_dump())
    return sent.__eq__(arrived) is NotImplemented  # its class does not say when its objects are equal
