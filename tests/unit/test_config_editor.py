"""Test of two changes of the configuration at once: etcd ends with the latest version, whichever is written last."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from taskd.config.editor import ConfigEditor
from taskd.domain.config import Version
from taskd.runtime.config import Config


class FakeServers:
    """Fake of PostgreSQL's versions and etcd's copy. The first copy waits until `go` is set."""

    def __init__(self) -> None:
        self.versions = [Version()]
        self.copy: Version | None = None
        self.held = asyncio.Event()
        self.go = asyncio.Event()

    async def latest(self) -> Version:
        return self.versions[-1]

    async def append(self, made_from: Version, *, who: str, what: str, values: dict[str, Any]) -> Version | None:
        if made_from != self.versions[-1]:
            return None
        self.versions.append(Version(version=made_from.version + 1, who=who, what=what, values=values))
        return self.versions[-1]

    async def publish(self, version: Version) -> None:
        if not self.held.is_set():
            self.held.set()
            await self.go.wait()
        self.copy = version


async def test_a_late_copy_of_an_older_version_does_not_stay() -> None:
    servers, slow, fast = FakeServers(), Config(), Config()
    both = cast("Any", servers)
    setting = asyncio.create_task(ConfigEditor(both, both, slow).set("queue.a.weight", 2, "slow"))
    await servers.held.wait()
    latest = await ConfigEditor(both, both, fast).set("queue.b.weight", 3, "fast")
    servers.go.set()
    assert (await setting).version == 1
    assert servers.copy == slow.now == fast.now == latest
    assert latest.values == {"queue.a.weight": 2, "queue.b.weight": 3}
