"""A component's health."""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct, frozen=True):
    """Whether it works; `since` is Unix seconds of the last change, `detail` says what is wrong."""

    ok: bool
    since: float
    detail: str = ""
