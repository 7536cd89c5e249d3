"""The settings of a process: values that it is started with.

Limits: settings are frozen; a change needs a new start. Values that change while everything runs are the live configuration
(`taskd.config`). Secrets are read here and never shown: errors name a key, not its value.

Model: `sections` has every key with its type, default and meaning. `sources` reads them, in this order of precedence: flags,
environment, TOML file, defaults. `documents` writes the example file and the tables of the documentation from the same
sections, so they cannot differ.

Failures: an unknown section or key, a value of a wrong type, or times that do not fit together
(`domain/timing_rules.py`) raise one ConfigurationError, which names the source, the section and the key.
"""

from taskd.settings.sections import (
    ENVIRONMENT,
    ClientSettings,
    EtcdSettings,
    HistorySettings,
    HttpSettings,
    LogSettings,
    PostgresSettings,
    RedisSettings,
    SchedulerSettings,
    Section,
    Settings,
    TaskSettings,
    TraceSettings,
    WorkerSettings,
)
from taskd.settings.sources import DEFAULT_FILES, given, load, unfit_times

__all__ = [
    "DEFAULT_FILES",
    "ENVIRONMENT",
    "ClientSettings",
    "EtcdSettings",
    "HistorySettings",
    "HttpSettings",
    "LogSettings",
    "PostgresSettings",
    "RedisSettings",
    "SchedulerSettings",
    "Section",
    "Settings",
    "TaskSettings",
    "TraceSettings",
    "WorkerSettings",
    "given",
    "load",
    "unfit_times",
]
