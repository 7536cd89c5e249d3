"""A component's health."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Health(msgspec.Struct, frozen=True):
    """The health of one component: `since` is Unix seconds of the last change, `detail` says what is wrong."""

    ok: bool
    since: float
    detail: str = ""


#: The text that replaces a component's details in public answers.
AWAY = "it does not answer as it should: the log says more"


def public(components: Mapping[str, Health]) -> dict[str, Health]:
    """Return the same without the details, which may have hosts, roles and paths: for answers that need no token."""
    return {
        name: health if health.ok else Health(ok=False, since=health.since, detail=AWAY)
        for name, health in components.items()
    }
