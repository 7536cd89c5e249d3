"""The options of `taskd dev`. Light to import, for the command line's sake."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Source = Literal["auto", "embedded", "system"]


class DevOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster. `worker` holds settings of the section [worker] for every worker; `port` is the first scheduler's.

    Every process gets the `global_options` of the command line, and the variables of `environment`. `postgres` holds settings
    of the server. `audit` adds the audit trail before the first job. `fixed_ports`: the servers have the same ports in every
    run. `schedules`: the schedules that the app declares are applied.
    """

    data: Path = Path(".taskd")
    port: int = 8080
    schedulers: int = 1
    workers: int = 1
    worker: dict[str, str] = {}
    fresh: bool = False
    global_options: tuple[str, ...] = ()
    source: Source = "auto"
    environment: dict[str, str] = {}
    postgres: dict[str, str] = {}
    audit: bool = False
    fixed_ports: bool = False
    schedules: bool = False
