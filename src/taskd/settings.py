"""Every setting of taskd, typed and frozen, in sections. Precedence: flags, environment, TOML file, defaults.

This module prints `taskd.toml.example` (`python -m taskd.settings`) and the tables of `docs/configuration.md`
(`python -m taskd.settings --markdown`).
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from taskd.domain import constraints, timing_rules
from taskd.domain.errors import ConfigurationError

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
#: Seconds, at most 100 years: PostgreSQL refuses times before its calendar.
Keep = Annotated[float, Meta(gt=0, le=3_155_760_000)]
#: A payload or result must fit into one message to or from an executor (64 MiB) with room to spare.
OneValue = Annotated[int, Meta(ge=1, le=32 * 1024 * 1024)]


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the TOML file."""


class HttpSettings(Section, frozen=True):
    """The scheduler's HTTP API."""

    addr: Annotated[str, _doc("HOST:PORT to listen on; an empty HOST means every interface")] = ":8080"
    max_job_bytes: Annotated[OneValue, _doc("the largest payload of one job")] = 1024 * 1024
    max_batch_bytes: Annotated[
        Count, _doc("the largest body of POST /jobs/batch; bodies of more than 64 KiB share 128 MiB")
    ] = 16 * 1024 * 1024
    max_batch_jobs: Annotated[Count, _doc("the most jobs in one POST /jobs/batch")] = 10_000
    shutdown_grace: Annotated[Positive, _doc("seconds that open requests may still take after SIGTERM")] = 5.0
    rate_limit: Annotated[float, Meta(ge=0), _doc("the most requests per second of an API token; 0: no limit")] = 0.0
    insecure: Annotated[bool, _doc("listen on a network also without API tokens")] = False
    hosts: Annotated[
        str, _doc("this scheduler's names in URLs, comma-separated HOST or HOST:PORT (docs/security.md, Browsers)")
    ] = ""
    cert_file: Annotated[str, _doc("PEM file with the certificate chain to show; empty: plain HTTP")] = ""
    key_file: Annotated[str, _doc("PEM file with the certificate's private key")] = ""


class PostgresSettings(Section, frozen=True):
    """PostgreSQL, which stores every job."""

    dsn: Annotated[str, _doc("a libpq connection string or URL")] = "postgresql://localhost:5432/taskd"
    deadline: Annotated[Positive, _doc("seconds after which a statement counts as unanswered")] = 2.0
    readers: Annotated[Count, _doc("connections for the API's reads")] = 4
    pooled: Annotated[bool, _doc("the dsn names a pooler that pools transactions, such as PgBouncer")] = False


class RedisSettings(Section, frozen=True):
    """Redis or Valkey, which carries notices of due jobs to workers."""

    url: Annotated[str, _doc("HOST:PORT, redis://, rediss:// or redis+sentinel://")] = "localhost:6379"
    stream: Annotated[str, _doc("the prefix of every key of taskd")] = "jobs"
    group: Annotated[str, _doc("the consumer group that all workers share")] = "workers"
    deadline: Annotated[Positive, _doc("seconds after which a command counts as unanswered")] = 2.0
    ca_file: Annotated[str, _doc("PEM file with the authorities to trust for rediss://; empty: the system's")] = ""
    cert_file: Annotated[str, _doc("PEM file with a client certificate to show to Redis; empty: none")] = ""
    key_file: Annotated[str, _doc("PEM file with the client certificate's private key")] = ""


class EtcdSettings(Section, frozen=True):
    """etcd, which has the live processes and the leader election."""

    endpoints: Annotated[str, _doc("HOST:PORT or https://HOST:PORT, comma-separated")] = "localhost:2379"
    prefix: Annotated[str, _doc("the prefix of every key of taskd")] = "/taskd"
    ttl: Annotated[
        float,
        Meta(ge=2),
        _doc(
            "seconds until the keys of a dead scheduler expire, and 1.5 times that for a worker; 10 or more, and at most"
            " twice scheduler.leader_stale"
        ),
    ] = 10.0
    ca_file: Annotated[str, _doc("PEM file with the authorities to trust for https://; empty: those of gRPC")] = ""
    cert_file: Annotated[str, _doc("PEM file with a client certificate to show to etcd; empty: none")] = ""
    key_file: Annotated[str, _doc("PEM file with the client certificate's private key")] = ""


class SchedulerSettings(Section, frozen=True):
    """Schedulers: dispatch and leadership."""

    instance_id: Annotated[str, _doc("the scheduler's name; empty: host-pid")] = ""
    shards: Annotated[
        int,
        Meta(ge=1, le=64),
        _doc("how many schedulers may lead at once, each its own queues; the same on every scheduler"),
    ] = 1
    poll: Annotated[Positive, _doc("seconds between checks for due jobs without a wake-up")] = 1.0
    batch: Annotated[Count, _doc("the most jobs in one dispatch statement")] = 1000
    credit_seconds: Annotated[Positive, _doc("seconds of work of all workers to keep in Redis")] = 0.2
    ageing: Annotated[Positive, _doc("seconds in which a waiting job gains one point of priority")] = 60.0
    reoffer_after: Annotated[Positive, _doc("seconds until the entry of an unclaimed queued job is checked")] = 3.0
    leader_stale: Annotated[
        Positive, _doc("seconds without renewal after which another scheduler may take over leadership")
    ] = 10.0
    leader_renew: Annotated[
        Positive, _doc("seconds between renewals of leadership; less than half of leader_stale")
    ] = 2.0


class HistorySettings(Section, frozen=True):
    """Finished jobs, with their dedupe keys: how long they are kept after their end."""

    keep_completed: Annotated[Keep, _doc("seconds; 7 days by default")] = 604_800.0
    keep_failed: Annotated[Keep, _doc("seconds; 30 days by default")] = 2_592_000.0
    keep_cancelled: Annotated[Keep, _doc("seconds; 30 days by default")] = 2_592_000.0


class WorkerSettings(Section, frozen=True):
    """A worker and its executor processes."""

    id: Annotated[str, _doc("the worker's name; empty: host-pid")] = ""
    app: Annotated[str, _doc("the app with the tasks: pkg.module or pkg.module:attr; empty: the built-in tasks")] = ""
    queues: Annotated[str, _doc("the queues to serve, comma-separated")] = "default"
    concurrency: Annotated[Count, _doc("slots: how many attempts run at once")] = 8
    processes: Annotated[
        int, Meta(ge=0), _doc("executor processes; 0: one per core, at most 4 and at most the slots")
    ] = 0
    http_addr: Annotated[str, _doc("HOST:PORT of /health and /metrics; empty: none")] = ":9090"
    cert_file: Annotated[str, _doc("PEM file with the certificate chain of http_addr; empty: plain HTTP")] = ""
    key_file: Annotated[str, _doc("PEM file with the certificate's private key")] = ""
    grace: Annotated[Positive, _doc("seconds that running tasks may still take after SIGTERM")] = 30.0
    stop_grace: Annotated[
        Positive, _doc("seconds between asking a task to stop and killing its executor; at most grace")
    ] = 2.0
    session_ttl: Annotated[float, Meta(ge=2), _doc("seconds until a silent worker's jobs restart elsewhere")] = 15.0
    heartbeat: Annotated[Positive, _doc("seconds between heartbeats; less than half of session_ttl")] = 5.0
    max_result_bytes: Annotated[OneValue, _doc("the largest result or checkpoint that is stored")] = 1024 * 1024
    max_error_bytes: Annotated[Count, _doc("the most bytes kept of an error's text, and of its traceback")] = 16 * 1024
    max_log_bytes: Annotated[
        int, Meta(ge=0, le=16 * 1024 * 1024), _doc("the most bytes kept of the output of one attempt; 0: none")
    ] = 64 * 1024
    reload: Annotated[bool, _doc("for development: load changed code while the worker runs")] = False
    transactions: Annotated[
        Count,
        _doc("the most connections to PostgreSQL for transactions of tasks, in each executor"),
    ] = 2
    transaction_dsn: Annotated[
        str,
        _doc(
            "the dsn of these connections; empty: postgres.dsn. A role of its own needs few rights (docs/transactions.md)"
        ),
    ] = ""
    claim_idle: Annotated[Positive, _doc("seconds until an unclaimed delivery goes to another worker")] = 15.0


class TaskSettings(Section, frozen=True):
    """The built-in tasks `command` and `http`. A worker has each only if its `_allow` key is set."""

    command_allow: Annotated[str, _doc("programs that `command` may run: absolute paths, comma-separated")] = ""
    command_max_output: Annotated[OneValue, _doc("the most bytes kept of each output of a program")] = 64 * 1024
    http_allow: Annotated[str, _doc("URLs that `http` may call, with all URLs below them, comma-separated")] = ""
    http_networks: Annotated[
        str, _doc("networks that `http` may call although they are not public, such as 10.1.0.0/16, comma-separated")
    ] = ""
    http_max_response: Annotated[OneValue, _doc("the most bytes kept of a response")] = 64 * 1024


class TraceSettings(Section, frozen=True):
    """Traces with OpenTelemetry; needs the extra `otel`."""

    endpoint: Annotated[
        str, _doc("the receiver of spans (OTLP by HTTP), such as http://localhost:4318; empty: none")
    ] = ""
    sample: Annotated[
        float, Meta(ge=0, le=1), _doc("the share of jobs that get a trace; a client's own trace decides for itself")
    ] = 1.0


class LogSettings(Section, frozen=True):
    """Logs, which go to stderr."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _doc("DEBUG, INFO, WARNING or ERROR")] = "INFO"
    format: Annotated[Literal["JSON", "TEXT", ""], _doc("JSON or TEXT; empty: TEXT on a terminal, else JSON")] = ""


class ClientSettings(Section, frozen=True):
    """The command line's connection to the schedulers, and that of tasks that submit."""

    server: Annotated[str, _doc("the schedulers' URLs, comma-separated and tried in turn")] = "http://localhost:8080"
    token: Annotated[str, _doc("the API token to show; empty: none")] = ""
    ca_file: Annotated[str, _doc("PEM file with the authorities to trust for https://; empty: the system's")] = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a process."""

    http: HttpSettings = HttpSettings()
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    etcd: EtcdSettings = EtcdSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    history: HistorySettings = HistorySettings()
    worker: WorkerSettings = WorkerSettings()
    tasks: TaskSettings = TaskSettings()
    trace: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()
    client: ClientSettings = ClientSettings()


#: The short environment names; any other key is TASKD_<SECTION>__<KEY>.
ENVIRONMENT = {
    "HTTP_ADDR": ("http", "addr"),
    "POSTGRES_DSN": ("postgres", "dsn"),
    "REDIS_URL": ("redis", "url"),
    "ETCD_ENDPOINTS": ("etcd", "endpoints"),
    "REDIS_STREAM_NAME": ("redis", "stream"),
    "REDIS_GROUP_NAME": ("redis", "group"),
    "SCHEDULER_SHARDS": ("scheduler", "shards"),
    "WORKER_ID": ("worker", "id"),
    "WORKER_HTTP_ADDR": ("worker", "http_addr"),
    "LOG_LEVEL": ("log", "level"),
    "LOG_FORMAT": ("log", "format"),
    "TASKD_SERVER": ("client", "server"),
    "TASKD_TOKEN": ("client", "token"),
    "TASKD_CA_FILE": ("client", "ca_file"),
}

DEFAULT_FILES = (Path("taskd.toml"), Path("/etc/taskd/taskd.toml"))

Raw = dict[str, dict[str, Any]]


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[tuple[str, str], object] | None = None,
    related: bool = True,
) -> Settings:
    """Return the settings of this process; `flags` maps (section, key) to a value, None meaning "not given".

    Raises ConfigurationError with the source, section and key of the first error. With `related` it also raises for
    times that do not fit together.
    """
    settings = Settings()
    for source, raw in _sources(file, environ, flags or {}):
        settings = _merge(settings, raw, source, strict=isinstance(source, Path))
    if related and (lines := unfit_times(settings)):
        raise ConfigurationError(lines[0])
    return settings


def unfit_times(settings: Settings) -> list[str]:
    """Return one line for each rule between times that these settings break."""
    return timing_rules.broken(lambda section, key: float(getattr(getattr(settings, section), key)))


def given(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[tuple[str, str], object] | None = None,
) -> frozenset[tuple[str, str]]:
    """Return the settings (section, key) that a file, a variable or a flag sets. Reads no value and no secret.

    Raises ConfigurationError for a file that is not TOML.
    """
    raw = _read(path) if (path := _file(file)) is not None else {}
    in_file = {(section, key) for section, values in raw.items() if isinstance(values, dict) for key in values}
    in_environment = {place for name in environ if (place := _place(name)) is not None}
    return frozenset(in_file | in_environment | {place for place, value in (flags or {}).items() if value is not None})


def _sources(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[tuple[str, str], object]
) -> Iterator[tuple[str | Path, Raw]]:
    """Yield the sources of settings with their values, the one of lowest precedence first."""
    if (path := _file(file)) is not None:
        yield path, _read(path)
    for name, raw in _from_environment(environ):
        yield f"environment variable {name}", raw
    for (section, key), value in flags.items():
        if value is not None:
            yield f"flag --{key.replace('_', '-')}", {section: {key: value}}


def _file(named: Path | None) -> Path | None:
    """Return the file to read; None if none is named and none is at the default places."""
    return named if named is not None else next((f for f in DEFAULT_FILES if f.exists()), None)


def _place(name: str) -> tuple[str, str] | None:
    """Return the setting (section, key) of an environment variable."""
    for known in (name, name.removesuffix("_FILE")):
        if known in ENVIRONMENT:
            return ENVIRONMENT[known]
    if not name.startswith("TASKD_") or "__" not in name:
        return None
    section, _, key = name.removeprefix("TASKD_").lower().partition("__")
    return section, key.removesuffix("_file") if not _is_key(section, key) else key


def _read(path: Path) -> Raw:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is no TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, Raw]]:
    found = []
    for name, place in ENVIRONMENT.items():
        found += _variable(environ, name, place)
    for name in sorted(environ):
        if name.startswith("TASKD_") and "__" in name:
            section, _, key = name.removeprefix("TASKD_").lower().partition("__")
            # A key may itself end in _file, such as ca_file: then the variable has the value.
            if key.endswith("_file") and not _is_key(section, key):
                found.append((name, {section: {key.removesuffix("_file"): _secret(name, environ[name])}}))
            else:
                found.append((name, {section: {key: environ[name]}}))
    return found


def _is_key(section: str, key: str) -> bool:
    return hasattr(getattr(Settings(), section, None), key)


def _variable(environ: Mapping[str, str], name: str, place: tuple[str, str]) -> list[tuple[str, Raw]]:
    section, key = place
    if name in environ:
        value = environ[name].upper() if section == "log" else environ[name]
        return [(name, {section: {key: value}})]
    if f"{name}_FILE" in environ:
        return [(f"{name}_FILE", {section: {key: _secret(f"{name}_FILE", environ[f"{name}_FILE"])}})]
    return []


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: {path} cannot be read: {error}") from None


def _merge(settings: Settings, raw: Raw, source: str | Path, *, strict: bool) -> Settings:
    merged = msgspec.to_builtins(settings)
    for section, values in raw.items():
        if section not in merged:
            raise ConfigurationError(f"{source}: there is no section [{section}]; the sections are {', '.join(merged)}")
        if not isinstance(values, dict):
            raise ConfigurationError(f"{source}: {section} must be a section, as in [{section}]")
        for key in values:
            if key not in merged[section]:
                known = ", ".join(merged[section])
                raise ConfigurationError(f"{source}: section [{section}] has no key {key!r}; its keys are {known}")
        merged[section] |= values
    try:
        return msgspec.convert(merged, Settings, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {_explain(error)}") from None


def _explain(error: msgspec.ValidationError) -> str:
    message, _, path = str(error).partition(" - at `$.")
    section, _, key = path.rstrip("`").replace("[...]", "").partition(".")
    # Without the value, which may be a secret.
    return f"section [{section}], key {key!r}: {constraints.rule(Settings, f'{section}.{key}')}" if key else message


def as_toml() -> str:
    """Return the text of taskd.toml.example: every setting, its meaning and its default."""
    lines = [
        "# Every setting of taskd with its default. Precedence: flags, the environment, this file.",
        "# Any key is also the variable TASKD_<SECTION>__<KEY>; with _FILE at its end it names a file with the value.",
    ]
    shorthands = {place: name for name, place in ENVIRONMENT.items()}
    for section in msgspec.structs.fields(Settings):
        lines += ["", f"# {(section.type.__doc__ or '').strip()}", f"[{section.name}]"]
        for field in msgspec.structs.fields(section.type):
            name = shorthands.get((section.name, field.name))
            lines.append(f"# {_describe(field.type)}{f' (also {name})' if name else ''}")
            lines.append(f"{field.name} = {msgspec.json.encode(field.default).decode()}")
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """Return the tables of docs/configuration.md, one for each section."""
    lines: list[str] = []
    shorthands = {place: name for name, place in ENVIRONMENT.items()}
    for section in msgspec.structs.fields(Settings):
        doc = (section.type.__doc__ or "").strip()
        lines += [f"## [{section.name}]", "", doc, "", "| key | default | meaning |", "|---|---|---|"]
        for field in msgspec.structs.fields(section.type):
            name = shorthands.get((section.name, field.name))
            meaning = f"{_describe(field.type)}{f' (also {name})' if name else ''}"
            lines.append(f"| `{field.name}` | `{msgspec.json.encode(field.default).decode()}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _describe(annotation: Any) -> str:
    return " ".join(m.description for m in _metas(annotation) if m.description)


def _metas(annotation: Any) -> list[Meta]:
    return [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Meta)]


if __name__ == "__main__":
    # This module as a program prints its output.
    print(as_markdown() if "--markdown" in sys.argv else as_toml(), end="")  # noqa: T201
