"""Test every link by TLS: the right certificate is accepted; foreign, expired and mismatched ones are refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from taskd.client import Client, ClientError
from taskd.client.asynchronous import AsyncClient
from taskd.client.requests import ClientRequest
from taskd.coordination.client import EtcdClient
from taskd.coordination.endpoints import reach
from taskd.coordination.records import why
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.ports import LOOPBACK
from taskd.domain.errors import ConfigurationError, CoordinatorUnavailable, StoreUnavailable, TransportUnavailable
from taskd.runtime.serve import Address, serving
from taskd.runtime.tls import Identity, identity
from taskd.settings import EtcdSettings, RedisSettings
from taskd.store.lane import Lane
from taskd.transport.stream import RedisTransport
from tests.servers import SharedServers
from tests.tls import Authority, Pair, SecureEtcd, front
from tests.unit.api_world import Recorder

#: Wrong certificates of a server, and a part of each refusal.
WRONG = {
    "a stranger's": "self.signed|unable to get local issuer|unknown authority|certificate verify failed",
    "an old one": "expired",
    "another's": "another name|IP address mismatch|doesn't match|does not match",
}
bad = pytest.mark.parametrize("kind", WRONG)


@pytest.fixture
def ours(private_folder: Path) -> Authority:
    return Authority(private_folder)


def shown(kind: str, ours: Authority, folder: Path) -> Pair:
    """Return the certificate that a server presents."""
    if kind == "a stranger's":
        return Authority(folder).issue()
    return ours.issue(expired=True) if kind == "an old one" else ours.issue("elsewhere.example")


# ------------------------------------------------------------ PostgreSQL


async def ask_postgres(servers: SharedServers, pair: Pair, ours: Authority) -> int:
    where = urlsplit(servers.postgres.dsn)
    assert where.port
    async with front(where.port, pair, postgres=True) as port:
        dsn = f"postgresql://{where.username}@{LOOPBACK}:{port}{where.path}?sslmode=verify-full&sslrootcert={ours.file}"
        lane = Lane(dsn, name="test:tls", deadline=5.0)
        try:
            rows = await lane.fetch("SELECT 1")
        finally:
            await lane.close()
    return int(rows[0][0])


async def test_postgres_with_the_right_certificate(servers: SharedServers, ours: Authority) -> None:
    assert await ask_postgres(servers, ours.issue(), ours) == 1


@bad
async def test_postgres_with_a_wrong_one(
    kind: str, servers: SharedServers, ours: Authority, private_folder: Path
) -> None:
    with pytest.raises(StoreUnavailable, match=f"PostgreSQL: .*({WRONG[kind]}|certificate verify failed)"):
        await ask_postgres(servers, shown(kind, ours, private_folder), ours)


# ------------------------------------------------------------ Redis


async def ask_redis(servers: SharedServers, pair: Pair, ours: Authority) -> None:
    async with front(servers.redis.port, pair) as port:
        transport = RedisTransport(RedisSettings(url=f"rediss://{LOOPBACK}:{port}", ca_file=ours.file))
        try:
            await transport.ping()
        finally:
            await transport.close()


async def test_redis_with_the_right_certificate(servers: SharedServers, ours: Authority) -> None:
    await ask_redis(servers, ours.issue(), ours)


@bad
async def test_redis_with_a_wrong_one(kind: str, servers: SharedServers, ours: Authority, private_folder: Path) -> None:
    with pytest.raises(TransportUnavailable, match=WRONG[kind]):
        await ask_redis(servers, shown(kind, ours, private_folder), ours)


def test_files_for_a_redis_without_tls_are_refused(ours: Authority) -> None:
    with pytest.raises(ConfigurationError, match="are for rediss://"):
        RedisTransport(RedisSettings(url="localhost:6379", ca_file=ours.file))


# ------------------------------------------------------------ etcd


@pytest.fixture
def etcd(
    request: pytest.FixtureRequest, server_binaries: Binaries, ours: Authority, private_folder: Path
) -> Iterator[str]:
    """Run an etcd that presents a certificate of this kind; yield its https:// endpoint."""
    kind = getattr(request, "param", "")
    pair = shown(kind, ours, private_folder) if kind else ours.issue()
    log = private_folder / "etcd.log"
    server = SecureEtcd(server_binaries.etcd, private_folder / "etcd", log=log, authority=ours, pair=pair)
    server.start()
    yield f"https://{server.endpoint}"
    server.kill()


async def ask_etcd(settings: EtcdSettings) -> str:
    client = EtcdClient(*reach(settings))
    try:
        return (await client.status()).version
    finally:
        await client.close()


async def test_etcd_with_the_right_certificates(etcd: str, ours: Authority) -> None:
    me = ours.issue()
    settings = EtcdSettings(endpoints=etcd, ca_file=ours.file, cert_file=me.cert_file, key_file=me.key_file)
    assert (await ask_etcd(settings)).startswith("3.")


@pytest.mark.parametrize(("etcd", "kind"), [(kind, kind) for kind in WRONG], indirect=["etcd"])
async def test_etcd_with_a_wrong_one(kind: str, etcd: str, ours: Authority) -> None:
    me = ours.issue()
    settings = EtcdSettings(endpoints=etcd, ca_file=ours.file, cert_file=me.cert_file, key_file=me.key_file)
    with pytest.raises(CoordinatorUnavailable, match=WRONG[kind]):
        await ask_etcd(settings)


REFUSED = "does not accept the client certificate|may not accept the client certificate"


async def test_etcd_refuses_who_shows_none(etcd: str, ours: Authority) -> None:
    with pytest.raises(CoordinatorUnavailable, match=REFUSED):
        await ask_etcd(EtcdSettings(endpoints=etcd, ca_file=ours.file))


@pytest.mark.parametrize("kind", ["a stranger's", "an old one"])
async def test_etcd_refuses_who_shows_a_wrong_one(kind: str, etcd: str, ours: Authority, private_folder: Path) -> None:
    (folder := private_folder / "stranger").mkdir()
    me = shown(kind, ours, folder)
    with pytest.raises(CoordinatorUnavailable, match=REFUSED):
        await ask_etcd(EtcdSettings(endpoints=etcd, ca_file=ours.file, cert_file=me.cert_file, key_file=me.key_file))


async def test_an_etcd_with_tls_that_is_asked_without(etcd: str) -> None:
    with pytest.raises(CoordinatorUnavailable, match="may speak TLS only"):
        await ask_etcd(EtcdSettings(endpoints=etcd.removeprefix("https://")))


async def test_an_etcd_without_tls_that_is_asked_with_it(servers: SharedServers, ours: Authority) -> None:
    with pytest.raises(CoordinatorUnavailable, match="does not speak TLS"):
        await ask_etcd(EtcdSettings(endpoints=f"https://{servers.etcd.endpoint}", ca_file=ours.file))


#: gRPC's messages on refusals by TLS 1.2 and 1.3, and the reported texts.
SAID = [
    (
        "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:10000412:SSL routines:OPENSSL_internal:"
        "SSLV3_ALERT_BAD_CERTIFICATE: OK",
        "does not accept the client certificate",
    ),
    (
        "Tls handshake failed: error:1000045c:SSL routines:OPENSSL_internal:TLSV1_ALERT_CERTIFICATE_REQUIRED",
        "does not accept the client certificate",
    ),
    ("Unwrap failed (TSI_DATA_CORRUPTED)", "does not accept the client certificate"),
    ("Socket closed", "may not accept the client certificate"),
    ("recvmsg:Connection reset by peer", "may not accept the client certificate"),
    ("Handshake read failed (Socket closed)", "does not speak TLS"),
    ("Tls handshake failed: OPENSSL_internal:WRONG_VERSION_NUMBER", "does not speak TLS"),
    ("Hostname Verification Check failed.", "a certificate for another name"),
    (
        "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK",
        "not accepted: certificate has expired",
    ),
    ("Failed to connect to remote host: Connection refused", "cannot be reached: Connection refused"),
]


@pytest.mark.parametrize(("said", "told"), SAID)
def test_each_refusal_is_reported_in_one_line(said: str, told: str) -> None:
    line = why(f"failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: {said}", secure=True)
    assert told in line
    assert "TSI" not in line


# ------------------------------------------------------------ our own HTTP


@pytest.fixture
async def served(ours: Authority) -> AsyncIterator[tuple[Address, Identity, Pair]]:
    pair = ours.issue()
    shows = Identity(*pair, "http")
    api = Recorder().api()
    async with serving(api, f"{LOOPBACK}:0", "--http-addr", closing=api.close, identity=shows) as address:
        yield address, shows, pair


async def ask_us(url: str, ca_file: str | None) -> str:
    def ask() -> str:
        with Client(url, ca_file=ca_file) as client:
            return str(client.get("/health")["status"])

    return await asyncio.to_thread(ask)


async def test_our_api_with_the_right_certificate(served: tuple[Address, Identity, Pair], ours: Authority) -> None:
    address, *_ = served
    assert address.url.startswith("https://")
    assert await ask_us(address.url, ours.file) == "healthy"


async def test_our_client_refuses_a_strangers(served: tuple[Address, Identity, Pair], private_folder: Path) -> None:
    address, *_ = served
    with pytest.raises(ClientError, match=r"is not accepted .*: TASKD_CA_FILE names the file"):
        await ask_us(address.url, Authority(private_folder).file)
    with pytest.raises(ClientError, match="is not accepted"):
        await ask_us(address.url, None)


async def test_our_asynchronous_client_trusts_the_same(
    served: tuple[Address, Identity, Pair], ours: Authority, private_folder: Path
) -> None:
    address, *_ = served
    health = ClientRequest("GET", "/health")
    async with AsyncClient(address.url, ca_file=ours.file) as client:
        assert (await client.ask(health))["status"] == "healthy"
    async with AsyncClient(address.url, ca_file=Authority(private_folder).file) as client:
        with pytest.raises(ClientError, match=r"is not accepted .*: TASKD_CA_FILE names the file"):
            await client.ask(health)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    served: tuple[Address, Identity, Pair], ours: Authority
) -> None:
    address, shows, pair = served
    later = ours.issue(expired=True)
    os.replace(later.cert_file, pair.cert_file)
    with capture_logs() as log_lines:
        shows.look()
    assert [line["log_level"] for line in log_lines] == [
        "warning"
    ]  # the certificate is new, and the key still the old one
    assert await ask_us(address.url, ours.file) == "healthy"
    os.replace(later.key_file, pair.key_file)
    shows.look()
    with pytest.raises(ClientError, match="expired"):
        await ask_us(address.url, ours.file)


def test_files_that_are_no_certificate_are_refused(ours: Authority, private_folder: Path) -> None:
    nonsense = private_folder / "nonsense.pem"
    nonsense.write_text("nonsense")
    one, other = ours.issue(), ours.issue()
    for cert_file, key_file, complaint in (
        (one.cert_file, "", "key_file is missing"),
        (one.cert_file, "/nowhere", "key_file: /nowhere: No such file"),
        (one.cert_file, other.key_file, "the key does not belong to the certificate"),
        (str(nonsense), one.key_file, "no usable PEM"),
    ):
        with pytest.raises(ConfigurationError, match=f"section .http.*{complaint}"):
            identity(cert_file, key_file, "http")
    assert identity("", "", "http") is None
