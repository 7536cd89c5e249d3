"""The sections of the settings: every key, with its type, default and meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

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
