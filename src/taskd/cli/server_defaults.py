"""The servers and schedulers that a command uses where nothing configures any: those of a dev cluster in this folder.

Configuration always wins: a flag, an environment variable or a file that names any server switches this off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from taskd.cli import output

if TYPE_CHECKING:
    from taskd.dev.running_cluster import RunningCluster
    from taskd.settings import ClientSettings

SERVERS = frozenset({("postgres", "dsn"), ("redis", "url"), ("etcd", "endpoints")})
#: As in `taskd.settings`, which most client commands do without: it takes a seventh of their time to load.
FILES = (Path("taskd.toml"), Path("/etc/taskd/taskd.toml"))
SIMPLE_VARIABLES = frozenset({"TASKD_SERVER", "TASKD_TOKEN", "TASKD_CA_FILE"})
OWN_VARIABLES = ("TASKD_CLIENT__", "TASKD_SERVER", "TASKD_TOKEN", "TASKD_CA_FILE")

_client: ClientSettings | None = None


def server(value: str, config: Path | None, *, chosen: bool) -> str:
    """Return the schedulers' addresses for `value`, the option --server.

    `chosen`: the command line or the environment gave the option. Raises ConfigurationError.
    """
    global _client  # noqa: PLW0603  the settings of this command, for `credentials`
    _client = None
    # Variables of other parts must not stop a client: they may be wrong, or name secrets that it may not read.
    environ = {name: text for name, text in os.environ.items() if name.startswith(OWN_VARIABLES)}
    files = config is not None or any(file.exists() for file in FILES)
    if files or environ.keys() - SIMPLE_VARIABLES:
        from taskd.settings import load  # noqa: PLC0415  only with a configuration

        _client = load(file=config, environ=environ, related=False).client
    if chosen or not (files or environ.keys() - SIMPLE_VARIABLES or Path(".taskd").exists()):
        return value
    from taskd.settings import given  # noqa: PLC0415  as above

    named = given(file=config)
    if _client is not None and ("client", "server") in named and _client.server:
        return _client.server
    cluster = None if SERVERS & named else _running()
    return ",".join(cluster.urls) if cluster is not None else value


def credentials() -> tuple[str | None, str | None]:
    """Return the token and the file of certificate authorities for the schedulers."""
    if _client is None:
        return os.environ.get("TASKD_TOKEN"), os.environ.get("TASKD_CA_FILE") or None
    from taskd.runtime import secrets  # noqa: PLC0415  only with a configuration

    secrets.learn_client(_client)
    return _client.token or None, _client.ca_file or None


def servers(config: Path | None, asked: str) -> dict[tuple[str, str], object]:
    """Return the settings of a dev cluster's servers, if one is to be used; else an empty dict.

    Jobs that tasks submit go to the same cluster then. `asked` holds the schedulers that this process would ask: if others
    than the cluster's are among them, they count as configuration.
    """
    from taskd.settings import given  # noqa: PLC0415  as above

    named = given(file=config)
    if SERVERS & named:
        return {}
    urls = (
        None
        if not asked or ("client", "server") not in named
        else {url.strip().rstrip("/") for url in asked.split(",")}
    )
    cluster = _running(urls)
    if cluster is None:
        return {}
    if not os.environ.get("TASKD_SERVER"):
        os.environ["TASKD_SERVER"] = ",".join(cluster.urls)
    return dict(cluster.settings)


def export_client(client: ClientSettings) -> None:
    """Put the file's schedulers and token into the environment for the executors, which read nothing else."""
    default = type(client)()
    for key in ("server", "token", "ca_file"):
        value, name = getattr(client, key), f"TASKD_{key.upper()}"
        if value != getattr(default, key) and not os.environ.get(name):
            os.environ[name] = value


def _running(urls: set[str] | None = None) -> RunningCluster | None:
    """Return the dev cluster in this folder and report its use on stderr.

    Return None if no cluster runs, or if `urls` has addresses that are not its own.
    """
    from taskd.dev import running_cluster  # noqa: PLC0415  only without a configuration

    cluster = running_cluster.find()
    if cluster is None or (urls is not None and not urls <= _known(cluster)):
        return None
    output.write_line(f"using the dev cluster in ./{running_cluster.DEFAULT_FOLDER}", err=True)
    return cluster


def _known(cluster: RunningCluster) -> set[str]:
    return {f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in cluster.schedulers}
