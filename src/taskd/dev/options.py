"""What `taskd dev` is asked for. Light to import, for the command line's sake."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Source = Literal["auto", "embedded", "system"]


class DevOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster. `worker` holds settings of the section [worker] for every worker; `port` is the first scheduler's.

    `options` are the global options of the command line, handed on to every process, as are the variables of `environment`;
    `postgres` are settings of the server; `audit` adds the audit trail before anything moves. `fixed_ports`: the servers have
    the same ports in every run. `schedules`: those that the app declares are applied.
    """

    data: Path = Path(".taskd")
    port: int = 8080
    schedulers: int = 1
    workers: int = 1
    worker: dict[str, str] = {}
    fresh: bool = False
    options: tuple[str, ...] = ()
    source: Source = "auto"
    environment: dict[str, str] = {}
    postgres: dict[str, str] = {}
    audit: bool = False
    fixed_ports: bool = False
    schedules: bool = False
