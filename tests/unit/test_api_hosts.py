"""Tests against web pages that reach a scheduler through a browser: by DNS rebinding, or across sites."""

from __future__ import annotations

import socket

import pytest

from taskd.api.hosts import Hosts
from taskd.domain.errors import ConfigurationError
from taskd.domain.scope import Scope
from taskd.domain.token import Keyring, Token, make
from taskd.runtime import meters
from taskd.settings import HttpSettings
from tests.unit.api_world import Recorder, asking

LOCAL = HttpSettings(addr="localhost:8080", hosts="taskd.example.com, proxy:8443, [fd00::5]")
NETWORK = HttpSettings(addr=":8080", insecure=True)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8080", "LOCALHOST:1", "localhost.:8080", "a.localhost", "a.b.localhost:65535",
        "127.0.0.1", "127.8.9.10:80", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
        "taskd.example.com", "taskd.example.com:9", "proxy:8443", "[fd00::5]:8080",
    ],
)  # fmt: skip
def test_loopback_and_listed_hosts_are_known(host: str) -> None:
    assert Hosts(LOCAL).known(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        None, "", " ", ":8080", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io",
        "notlocalhost", "xn--localhost-x", ".localhost", "a..localhost", "10.0.0.1", "8.8.8.8:8080", "0.0.0.0",
        "[::]", "[::2]", "[::1", "::1", "[::1]x", "[127.0.0.1]x", "localhost:99999", "localhost:8080:8080",
        "localhost:-1", "localhost:٨", "localhost, evil.example", "localhost@evil.example", "evil.example#localhost",
        "evil.example/localhost", "localhost evil.example", "localhost\tx", "127.1", "0x7f000001", "2130706433",
        "127.0.0.256", "locálhost", "[::1%25lo]", "a.taskd.example.com", "proxy:8080", "proxy", "example.com",
        "http://localhost",
    ],
)  # fmt: skip
def test_other_hosts_are_unknown(host: str | None) -> None:
    assert not Hosts(LOCAL).known(None if host is None else host.encode())


def test_the_host_to_listen_on_is_known() -> None:
    assert Hosts(HttpSettings(addr="buildbox.internal:8080")).known(b"buildbox.internal:8080")
    assert Hosts(HttpSettings(addr="10.1.2.3:8080")).known(b"10.1.2.3")
    assert Hosts(HttpSettings(addr="[fd00::7]:8080")).known(b"[fd00:0::7]:8080")
    assert not Hosts(HttpSettings(addr=":8080")).known(b"10.1.2.3")


def test_an_insecure_scheduler_is_reached_by_any_address_and_its_own_name_but_by_no_other_name() -> None:
    hosts = Hosts(NETWORK)
    for host in ("10.1.2.3:8080", "192.168.0.7", "[fd00::7]:8080", socket.gethostname(), "localhost"):
        assert hosts.known(host.encode()), host
    for host in ("evil.example", "0.0.0.0:8080", "[::]"):
        assert not hosts.known(host.encode()), host


@pytest.mark.parametrize("listed", ["http://taskd", "a b", "taskd:99999", "*", "*.example.com", "[::1", "user@taskd"])
def test_an_invalid_list_of_hosts_is_refused_at_the_start(listed: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.hosts: "):
        Hosts(HttpSettings(hosts=f"taskd, {listed}"))


def test_the_cache_of_hosts_is_bounded() -> None:
    hosts = Hosts(LOCAL)
    for number in range(10_000):
        hosts.known(b"h%d" % number)
    assert len(hosts._known) < 1000


REFUSED_PAGES = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "same-site", "origin": "http://localhost:8080"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://localhost"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "http://localhost:8080.evil.example"},
    {"origin": "http://localhost:8080@evil.example"},
    {"origin": "http://localhost:8080/"},
    {"origin": "http://localhost:8080 http://evil.example"},
    {"origin": "ftp://localhost:8080"},
    {"origin": "chrome-extension://localhost:8080"},
    {"origin": "localhost:8080"},
]
OWN_PAGES = [
    {},
    {"sec-fetch-site": "same-origin", "origin": "http://localhost:8080"},
    {"sec-fetch-site": "none"},
    {"origin": "http://localhost:8080"},
    {"origin": "HTTP://LOCALHOST:8080"},
    {"origin": "https://localhost:8080"},
]
UNSAFE = [
    ("POST", "/jobs"), ("POST", "/jobs/1/cancel"), ("POST", "/jobs/1/retry"), ("POST", "/jobs/cancel"), ("PUT", "/config/x"),
    ("DELETE", "/config/x"), ("POST", "/schedules/x/pause"), ("POST", "/ui/anything"), ("PATCH", "/nowhere"),
    ("POST", "/health"),
]  # fmt: skip


@pytest.mark.parametrize("headers", REFUSED_PAGES)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "with tokens"])
async def test_changes_by_pages_of_other_sites_are_refused_on_every_path(headers: dict[str, str], closed: bool) -> None:
    world = Recorder()
    more = _closed(world) if closed else {}
    async with asking(world) as client:
        for method, path in UNSAFE:
            before = _refused("cross_site")
            response = await client.request(
                method, path, headers={**headers, **more, "host": "localhost:8080"}, json={"payload": 1}
            )
            assert (response.status_code, path) == (403, path)
            assert "http.hosts" in response.json()["detail"]
            assert _refused("cross_site") == before + 1
        seen = await client.get("/jobs", headers={**headers, **more, "host": "localhost:8080"})
        assert seen.status_code == 200
    assert (world.specs, world.cancels) == ([], [])


@pytest.mark.parametrize("headers", OWN_PAGES)
async def test_changes_by_own_pages_and_by_other_clients_are_made(headers: dict[str, str]) -> None:
    async with asking(Recorder()) as client:
        response = await client.post("/jobs", json={"payload": 1}, headers={**headers, "host": "localhost:8080"})
        assert response.status_code == 201


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "same"),
    [
        ("https://taskd.example.com", "taskd.example.com", "http", True),  # a proxy terminates TLS
        ("https://taskd.example.com", "backend:8080", "http", True),  # and names its backend
        ("https://taskd.example.com:444", "backend:8080", "http", False),
        ("https://proxy:8443", "backend:8080", "http", True),
        ("https://proxy", "backend:8080", "http", False),
        ("https://elsewhere:8443", "elsewhere:8443", "https", True),
        ("http://elsewhere:8443", "elsewhere:8443", "https", False),
        ("http://elsewhere", "elsewhere:80", "http", True),
        ("https://elsewhere", "elsewhere:80", "http", False),
        ("http://[::1]:8080", "[0::1]:8080", "http", True),
        ("http://elsewhere", "", "http", False),
    ],
)
def test_an_origin_is_compared_by_host_and_port(origin: str, host: str, scheme: str, same: bool) -> None:
    assert Hosts(LOCAL)._is_own(origin.encode(), host.encode(), scheme) == same


async def test_unknown_hosts_are_refused_on_every_path_but_the_probes_while_there_are_no_tokens() -> None:
    world = Recorder()
    async with asking(world) as client:
        for method, path in (
            *UNSAFE[:-1],
            ("GET", "/jobs"),
            ("GET", "/metrics"),
            ("GET", "/docs"),
            ("GET", "/nowhere"),
        ):
            before = _refused("host")
            response = await client.request(method, path, headers={"host": "evil.example"}, json={"payload": 1})
            assert (response.status_code, path) == (421, path)
            assert "evil.example" in response.json()["detail"]
            assert "http.hosts" in response.json()["detail"]
            assert _refused("host") == before + 1
        for path in ("/alive", "/health"):
            assert (await client.get(path, headers={"host": "10.0.0.9:8080"})).status_code == 200
    assert world.specs == []
    more = _closed(world)
    async with asking(world) as client:
        assert (await client.get("/jobs", headers={"host": "evil.example", **more})).status_code == 200
        assert (await client.get("/jobs", headers={"host": "evil.example"})).status_code == 401


async def test_the_page_is_not_framed_and_loads_nothing_from_elsewhere() -> None:
    async with asking(Recorder()) as client:
        for path in ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/openapi.json"):
            headers = (await client.get(path)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


def _closed(world: Recorder) -> dict[str, str]:
    """Add a token with every scope; return its header."""
    ident, secret, digest = make()
    token = Token(id=ident, name="x", digest=digest, scopes=frozenset(Scope))
    world.ring = Keyring(closed=True, tokens={ident: token})
    return {"authorization": f"Bearer {secret}"}


def _refused(reason: str) -> float:
    value: float = meters.TURNED_AWAY.labels(reason)._value.get()
    return value
