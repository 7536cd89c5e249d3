"""Test the page on production: a cluster runs with the page's rights in PostgreSQL, Redis and etcd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trustme
from redis import Redis

from taskd import settings
from taskd.dev.child_process import Program
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import LOOPBACK, free_port
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.valkey import RedisServer
from tests.e2e.fleet import Fleet
from tests.pages import ROOT, blocks
from tests.servers import wait_until

PAGE = ROOT / "docs" / "production.md"
SECURITY = ROOT / "docs" / "security.md"
ACL = "ACL SETUSER taskd"


def block(beginning: str) -> str:
    """Return the text of the page's block with this beginning."""
    (text,) = (candidate.text for candidate in blocks(PAGE) if candidate.text.startswith(beginning))
    return text


def documented_acl(page: Path = PAGE) -> str:
    """Return the page's command that makes taskd's user in Redis."""
    (line,) = (line.strip() for line in page.read_text("utf-8").splitlines() if line.strip().startswith(ACL))
    return line


class Certificates:
    """Certificate authority whose certificates are in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str) -> tuple[str, str]:
        """Return the files of a certificate for this machine with this common name, and of its key."""
        issued = self._authority.issue_cert(LOOPBACK, common_name=name)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(certificate, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)


class DocumentedEtcd(EtcdServer):
    """The first member of the page's etcd, alone and on the test's ports."""

    certificates: Certificates

    def program(self) -> Program:
        """Return the page's settings with this machine's addresses and files."""
        settings = dict(line.split("=", 1) for line in block("ETCD_NAME").splitlines())
        client, peer = f"https://{self.address}", f"https://{LOOPBACK}:{self._peer_port}"
        certificate, key = self.certificates.issue("etcd-1")
        files = {"server.pem": certificate, "server.key": key, "ca.pem": self.certificates.ca}
        settings |= {name: files[Path(value).name] for name, value in settings.items() if name.endswith("_FILE")}
        settings |= {"ETCD_DATA_DIR": str(self.folder), "ETCD_INITIAL_CLUSTER": f"etcd-1={peer}"}
        settings |= {name: client for name in settings if name.endswith("CLIENT_URLS")}
        settings |= {name: peer for name in settings if name.endswith("PEER_URLS")}
        return Program(argv=[self.binary], environment=dict(os.environ) | settings)

    def probe(self) -> str | None:
        """Ask its health with the administrator's certificate."""
        health = self.ctl("endpoint health")
        return None if health.returncode == 0 else health.stderr

    def ctl(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run etcdctl as the administrator."""
        certificate, key = self.certificates.issue("root")
        program = shutil.which("etcdctl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert program, "etcdctl comes with the wheel of etcd"
        tls = [f"--cacert={self.certificates.ca}", f"--cert={certificate}", f"--key={key}"]
        return subprocess.run(
            [program, f"--endpoints=https://{self.address}", *tls, *command.split()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def certificates(private_folder: Path) -> Certificates:
    """Return the certificate authority of this test."""
    return Certificates(private_folder)


@pytest.fixture
def etcd(server_binaries: Binaries, private_folder: Path, certificates: Certificates) -> Iterator[DocumentedEtcd]:
    """Return the page's etcd, in which taskd's certificate has rights only to taskd's keys."""
    server = DocumentedEtcd(server_binaries.etcd, private_folder / "etcd", log=private_folder / "etcd.log")
    server.certificates = certificates
    server.start()
    for command in block("etcdctl user add root").splitlines():
        done = server.ctl(command.removeprefix("etcdctl "))
        assert done.returncode == 0, done.stderr
    yield server
    server.kill()


@pytest.fixture
def dsn(private_postgres: PostgresServer) -> str:
    """Return the DSN of the page's database and role, under other names, which the test server does not have yet."""
    renaming = r"\btaskd\b", "production"
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        for statement in re.sub(*renaming, block("CREATE ROLE taskd")).split(";\n"):
            connection.execute(statement.encode())
        (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        rule = re.sub(*renaming, block("hostssl")).replace("hostssl", "host").replace("10.0.0.0/24", f"{LOOPBACK}/32")
        tests = f"host all taskd {LOOPBACK}/32 trust\n"
        others = f"host all shop {LOOPBACK}/32 scram-sha-256\nhost webshop production {LOOPBACK}/32 scram-sha-256\n"
        Path(hba).write_text(rule + tests + others)
        connection.execute("SELECT pg_reload_conf()")
        know = "SELECT count(*) FROM pg_hba_file_rules"
        wait_until(lambda: connection.execute(know).fetchone() == (4,))
    return f"postgresql://production:POSTGRES-PASSWORD@{private_postgres.address}/production"


@pytest.fixture
def redis_user(private_redis: RedisServer) -> str:
    """Create the page's users in Redis, with the default user off; return the URL for taskd."""
    with private_redis.connect() as client:
        commands = block("ACL SETUSER admin").splitlines()
        assert commands[-1] == "ACL SAVE"  # this Redis has no file for it
        for command in commands[:-1]:
            client.execute_command(*command.split())
    return private_redis.url.replace("redis://", "redis://taskd:REDIS-PASSWORD@")


@pytest.fixture
def cluster(
    make_fleet: Callable[..., Fleet], dsn: str, redis_user: str, etcd: DocumentedEtcd, certificates: Certificates
) -> Fleet:
    """Return a fleet with the page's rights."""
    fleet = make_fleet(
        dsn=dsn, redis_url=redis_user, stream="jobs", etcd_endpoint=f"https://{etcd.address}", etcd_prefix="/taskd"
    )
    certificate, key = certificates.issue("taskd")
    fleet.more |= {
        "TASKD_ETCD__CA_FILE": certificates.ca,
        "TASKD_ETCD__CERT_FILE": certificate,
        "TASKD_ETCD__KEY_FILE": key,
    }
    return fleet


def typed(fleet: Fleet, *arguments: str) -> str:
    """Return the output of a command with the cluster's settings. Raises AssertionError unless it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "taskd", *arguments],
        env=fleet.environment,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_cluster_runs_with_the_rights_of_the_page(
    cluster: Fleet, private_redis: RedisServer, private_postgres: PostgresServer, etcd: DocumentedEtcd
) -> None:
    typed(cluster, "migrate")
    cluster.more["TASKD_TOKEN"] = typed(cluster, "token", "create", "ops", "--scope", "admin").strip()
    port = free_port()
    cluster.more["TASKD_SERVER"] = f"http://{LOOPBACK}:{port}"
    scheduler = cluster.start_scheduler("s1", port)
    worker = cluster.start_worker("w1", "--concurrency", "2")
    typed(cluster, "doctor")  # it fails if anything is wrong

    assert "job 1 completed" in typed(cluster, "submit", "--task", "rest", "0.1", "--wait", "60")
    lock = '{"name": "the till", "seconds": 0.1}'
    assert "job 2 completed" in typed(cluster, "submit", "--task", "exclusive", lock, "--wait", "60")
    typed(cluster, "submit", "--task", "linger", "600")
    wait_until(lambda: cluster.statuses([3]) == {"running": 1})
    assert "job 3 cancelled" in typed(cluster, "cancel", "3")
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        for statement in block("CREATE ROLE shop").replace("DATABASE taskd", "DATABASE production").split(";\n")[:2]:
            connection.execute(statement.encode())
    with psycopg.connect(cluster.dsn) as connection:
        for statement in block("CREATE ROLE shop").split(";\n")[2:]:
            connection.execute(statement.encode())
    shop = cluster.dsn.replace("production:POSTGRES-PASSWORD", "shop:SHOP-PASSWORD")
    with psycopg.connect(shop) as connection:
        (job,) = connection.execute("SELECT id FROM taskd.submit('rest', '{\"seconds\": 0}')").fetchone() or (0,)
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM taskd.jobs")
    cluster.wait_completed([job])
    assert worker.terminate() == 0
    assert scheduler.terminate() == 0

    url = private_redis.url.replace("redis://", "redis://admin:ADMIN-PASSWORD@")
    with Redis.from_url(url) as client:
        assert client.execute_command("ACL", "LOG") == []
        assert [key for key in client.keys("*") if not key.startswith(b"jobs:")] == []
    keys = etcd.ctl("get --prefix --keys-only /").stdout.split()
    assert keys
    assert [key for key in keys if not key.startswith("/taskd/")] == []


def test_a_database_that_is_there_needs_two_grants(dsn: str, private_postgres: PostgresServer, fleet: Fleet) -> None:
    assert "grant the role `CONNECT` and `CREATE` on it" in " ".join(PAGE.read_text("utf-8").split())
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE webshop")
        connection.execute("REVOKE ALL ON DATABASE webshop FROM PUBLIC")
        connection.execute("GRANT CONNECT, CREATE ON DATABASE webshop TO production")
    fleet.more["POSTGRES_DSN"] = dsn.removesuffix("production") + "webshop"
    assert "applied" in typed(fleet, "migrate")


def test_the_file_of_settings_is_one_and_the_environment_has_the_servers(tmp_path: Path) -> None:
    (file := tmp_path / "taskd.toml").write_text(block("[redis]"))
    variables = dict(shlex.split(line)[0].split("=", 1) for line in block("POSTGRES_DSN=").splitlines())
    loaded = settings.load(file=file, environ=variables)
    assert loaded.etcd.endpoints.count("https://") == 3
    assert loaded.redis.url.startswith("rediss://taskd:")
    assert "sslmode=verify-full&sslrootcert=" in loaded.postgres.dsn


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("unit", ["taskd-scheduler", "taskd-worker@"])
def test_systemd_takes_the_drop_in_with_the_keys(unit: str, tmp_path: Path) -> None:
    name = f"{unit}one.service" if unit.endswith("@") else f"{unit}.service"
    text = (ROOT / "deploy" / "systemd" / f"{unit}.service").read_text("utf-8")
    text = text.replace("/opt/taskd/bin/taskd", sys.executable).replace("/opt/taskd/app", "/tmp")
    drop_in = block("[Service]").removeprefix("[Service]\n")
    assert drop_in.count("%d/") == drop_in.count("LoadCredential=") == 2
    (file := tmp_path / name).write_text(text.replace("[Install]", f"{drop_in}\n[Install]"))
    verified = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if unit in line] == []


def test_every_command_of_a_script_is_among_the_rights() -> None:
    allowed = {word.removeprefix("+") for word in documented_acl().split() if word.startswith("+")}
    scripts = "".join(file.read_text("utf-8") for file in (ROOT / "src/taskd/transport/lua").glob("*.lua"))
    called = set(re.findall(r"(?:p?call\(|try\(|checked\(\w+, )'([A-Z]+)'", scripts))
    assert {"XADD", "XREADGROUP", "XINFO", "PTTL"} <= called
    assert {name.lower() for name in called} <= allowed


def test_the_pages_on_production_and_security_name_the_same_rights() -> None:
    def rights(page: Path) -> set[str]:
        return {word for word in documented_acl(page).split() if word[0] in "~&+-"}

    assert rights(PAGE) == rights(SECURITY)
