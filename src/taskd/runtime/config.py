"""The live configuration as this process has it, with listeners for its changes."""

from __future__ import annotations

from collections.abc import Callable

from taskd.domain.config import Version
from taskd.runtime.log import logger


class Config:
    """The last good version of the live configuration."""

    def __init__(self) -> None:
        self.now = Version()
        self._listeners: list[Callable[[Version], None]] = []

    def listen(self, changed: Callable[[Version], None]) -> None:
        """Call `changed` at each new version, and now."""
        self._listeners.append(changed)
        changed(self.now)

    def take(self, version: Version, *, certain: bool = False) -> None:
        """Use this version from now on, if it is newer than the present one, or `certain`: PostgreSQL's latest."""
        if version == self.now or (version.version <= self.now.version and not certain):
            return
        before, self.now = self.now, version
        logger().info(
            "live configuration changed", version=version.version, by=version.who, what=version.what, was=before.version
        )
        for changed in self._listeners:
            changed(version)
