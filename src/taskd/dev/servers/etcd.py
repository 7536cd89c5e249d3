"""A private etcd of one member."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
from pathlib import Path
from typing import ClassVar

from taskd.dev.child_process import Program
from taskd.dev.servers.ports import LOOPBACK, free_port
from taskd.dev.servers.server import Server, environment


class EtcdServer(Server):
    """etcd, a cluster of one."""

    title: ClassVar[str] = "etcd"
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(
        self, binary: Path, folder: Path, *, log: Path, port: int | None = None, run: Path | None = None
    ) -> None:
        super().__init__(binary, folder, log=log, port=port, run=run)
        self._peer_port = free_port()

    @property
    def endpoint(self) -> str:
        """HOST:PORT."""
        return self.address

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def launch(self) -> None:
        if self._peer_port == self.port or self.child.exit_status is not None:
            self._peer_port = free_port()
        super().launch()

    def program(self) -> Program:
        client, peer = f"http://{self.address}", f"http://{LOOPBACK}:{self._peer_port}"
        settings = {
            "name": "taskd",
            "data-dir": str(self.folder),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"taskd={peer}",
            # A single voter need not wait the second that a real cluster takes to elect a leader.
            "heartbeat-interval": "50",
            "election-timeout": "500",
            # Members refresh their keys every few seconds, and without compaction etcd keeps every old revision.
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": "5m",
            "log-level": "warn",
        }
        return Program(
            argv=[self.binary, *(f"--{name}={value}" for name, value in settings.items())],
            environment=environment(("ETCD_",)),
        )

    def probe(self) -> str | None:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            document = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            return str(error)
        finally:
            connection.close()
        return None if document.get("health") == "true" else f"/health answered {document}"

    def wipe(self) -> None:
        """Kill it and remove its data. After the next start its revisions begin at 1."""
        self.kill()
        shutil.rmtree(self.folder)
