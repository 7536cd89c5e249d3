"""Commands beside a dev cluster: the servers and schedulers that they use where nothing configures any.

Configuration always wins: a flag, a variable of the environment or a file that names any server switches this off.
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
    """The schedulers' addresses for `value`, the option --server; `chosen`: by the command line or the environment.

    Raises ConfigurationError.
    """
    global _client  # noqa: PLW0603  the settings of this command, for `credentials`
    _client = None
    # Variables of other parts do not keep a client from asking, be they wrong or secrets that it may not read.
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
    found = None if SERVERS & named else _running()
    return ",".join(found.urls) if found is not None else value


def credentials() -> tuple[str | None, str | None]:
    """The token and the file of authorities for the schedulers."""
    if _client is None:
        return os.environ.get("TASKD_TOKEN"), os.environ.get("TASKD_CA_FILE") or None
    from taskd.runtime import secrets  # noqa: PLC0415  only with a configuration

    secrets.learn_client(_client)
    return _client.token or None, _client.ca_file or None


def servers(config: Path | None, asked: str) -> dict[tuple[str, str], object]:
    """The settings of a dev cluster's servers, if one is to be used; then what tasks submit goes there too.

    `asked`: the schedulers that this process would ask. Others than the cluster's are configuration.
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
    found = _running(urls)
    if found is None:
        return {}
    if not os.environ.get("TASKD_SERVER"):
        os.environ["TASKD_SERVER"] = ",".join(found.urls)
    return dict(found.settings)


def hand_on(client: ClientSettings) -> None:
    """Let executors have the schedulers and the token of a configuration file: they read the environment only."""
    default = type(client)()
    for key in ("server", "token", "ca_file"):
        value, name = getattr(client, key), f"TASKD_{key.upper()}"
        if value != getattr(default, key) and not os.environ.get(name):
            os.environ[name] = value


def _running(urls: set[str] | None = None) -> RunningCluster | None:
    """The dev cluster in this folder, said so; None if there is none, or if `urls` has addresses that are not its own."""
    from taskd.dev import running_cluster  # noqa: PLC0415  only without a configuration

    found = running_cluster.find()
    if found is None or (urls is not None and not urls <= _known(found)):
        return None
    output.tell(f"using the dev cluster in ./{running_cluster.DEFAULT_FOLDER}", err=True)
    return found


def _known(found: RunningCluster) -> set[str]:
    return {f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in found.schedulers}
