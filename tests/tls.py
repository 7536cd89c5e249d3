"""A private certificate authority, and servers that speak TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
import trustme

from taskd.dev.child_process import Program
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import LOOPBACK

#: Request for TLS by a client of PostgreSQL, and the response that grants it.
WANTS_TLS, GRANTED = b"\x00\x00\x00\x08\x04\xd2\x16/", b"S"


class Pair(NamedTuple):
    """A certificate and its key, in files."""

    cert_file: str
    key_file: str


class Authority:
    """An authority that only its tests trust; `file` is its own certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / uuid4().hex
        self._folder.mkdir(mode=0o755)
        self._ca = trustme.CA()
        self.file = str(self._folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str = LOOPBACK, *, expired: bool = False) -> Pair:
        """Issue a certificate for a host name or an address."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        certificate = self._ca.issue_cert(
            name, not_before=yesterday - timedelta(days=9), not_after=yesterday if expired else None
        )
        stem = self._folder / uuid4().hex
        pair = Pair(f"{stem}.pem", f"{stem}.key")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(pair.cert_file, append=number > 0)
        certificate.private_key_pem.write_to_path(pair.key_file)
        return pair


@asynccontextmanager
async def front(target: int, pair: Pair, *, postgres: bool = False) -> AsyncIterator[int]:
    """Yield a port that speaks TLS and forwards to a port that does not. `postgres`: TLS begins by PostgreSQL's rules."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            if postgres:
                assert await reader.readexactly(len(WANTS_TLS)) == WANTS_TLS
                writer.write(GRANTED)
            await writer.start_tls(context)
            upstream, sender = await asyncio.open_connection(LOOPBACK, target)
            await asyncio.gather(_pass(reader, sender), _pass(upstream, writer))
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class SecureEtcd(EtcdServer):
    """An etcd that speaks only TLS, and only with clients that have a certificate of `authority`."""

    def __init__(self, binary: Path, folder: Path, *, log: Path, authority: Authority, pair: Pair) -> None:
        super().__init__(binary, folder, log=log)
        self._authority = authority
        self._pair = pair
        self._known = authority.issue()

    def program(self) -> Program:
        plain = super().program()
        client = f"http://{self.address}"
        argv = [str(part).replace(client, client.replace("http:", "https:")) for part in plain.argv]
        tls = {
            "cert-file": self._pair.cert_file,
            "key-file": self._pair.key_file,
            "trusted-ca-file": self._authority.file,
            "client-cert-auth": "true",
        }
        argv += [f"--{name}={value}" for name, value in tls.items()]
        return msgspec.structs.replace(plain, argv=argv)

    def probe(self) -> str | None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a test may give it a bad certificate
        context.load_cert_chain(*self._known)
        connection = http.client.HTTPSConnection(LOOPBACK, self.port, timeout=2, context=context)
        try:
            connection.request("GET", "/health")
            return None if b"true" in connection.getresponse().read() else "it is not healthy"
        except (OSError, http.client.HTTPException) as error:
            return str(error)
        finally:
            connection.close()
