"""Test the built-in tasks `command` and `http`: they do only what is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from taskd.app.builtin.addresses import CheckedBackend, NotAllowed, embedded, networks, public
from taskd.app.builtin.optional import build
from taskd.app.builtin.urls import parse_url
from taskd.domain.errors import ConfigurationError
from taskd.domain.outcome import Completed, Failed, Outcome, Released, TimedOut
from taskd.runtime.serve import serving
from taskd.settings import TaskSettings
from tests.integration.executor_bench import Bench, running
from tests.servers import wait_until_async

CANARY = "c4n4ry-5ecret"


def bench(**settings: Any) -> AbstractAsyncContextManager[Bench]:
    return running(Bench(tasks=TaskSettings(**settings)))


def result(outcome: Outcome) -> Any:
    assert isinstance(outcome, Completed), outcome
    return json.loads(bytes(outcome.result))


def error(outcome: Outcome, *, permanent: bool) -> str:
    assert isinstance(outcome, Failed), outcome
    assert outcome.permanent is permanent, outcome
    return outcome.error


# ------------------------------------------------------------ command


async def test_a_worker_has_neither_unless_it_is_switched_on() -> None:
    async with bench() as plain:
        assert not {"command", "http"} & set(plain.executors.tasks)
    async with bench(command_allow="/bin/echo", http_allow="https://example.com") as both:
        assert {"command", "http", "add"} <= set(both.executors.tasks)


async def test_a_program_gets_its_arguments_as_they_are() -> None:
    async with bench(command_allow="/bin/echo, /bin/cat") as allowed:
        argv = ["/bin/echo", "$HOME; ls *", "`id`", "a b", ""]
        ran = result(await allowed.run("command", json.dumps({"argv": argv})))
        assert ran == {"stdout": "$HOME; ls * `id` a b \n", "stderr": "", "cut": False}
        fed = result(await allowed.run("command", json.dumps({"argv": ["/bin/cat"], "stdin": "é\n"})))
        assert fed["stdout"] == "é\n"
        for _ in range(20):  # it ends without reading, sometimes before it receives anything
            unread = {"argv": ["/bin/echo", "x"], "stdin": "x" * 1_000_000}
            assert result(await allowed.run("command", json.dumps(unread)))["stdout"] == "x\n"


@pytest.mark.parametrize(
    "argv", [[], ["echo"], ["/bin/sh", "-c", "id"], ["/bin/../bin/echo"], ["/bin/echo\u0001"], [""]]
)
async def test_a_program_that_is_not_listed_does_not_run(argv: list[str]) -> None:
    async with bench(command_allow="/bin/echo") as allowed:
        text = error(await allowed.run("command", json.dumps({"argv": argv})), permanent=True)
    assert "is no program that this worker may run" in text


async def test_a_program_does_not_see_what_the_worker_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_DSN", CANARY)
    monkeypatch.setenv("LD_PRELOAD", "")
    async with bench(command_allow="/usr/bin/env") as allowed:
        ran = result(await allowed.run("command", '{"argv": ["/usr/bin/env"]}'))
    names = {line.partition("=")[0] for line in ran["stdout"].splitlines()}
    assert CANARY not in ran["stdout"]
    assert (
        {"TASKD_JOB", "TASKD_ATTEMPT", "TASKD_RUN"}
        <= names
        <= {"TASKD_JOB", "TASKD_ATTEMPT", "TASKD_RUN", "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    )


async def test_how_a_program_ends_is_how_its_attempt_ends() -> None:
    async with bench(command_allow="/bin/sh,/nowhere/program", command_max_output=5) as allowed:

        async def shell(script: str) -> Outcome:
            return await allowed.run("command", json.dumps({"argv": ["/bin/sh", "-c", script]}))

        assert error(await shell("echo out; echo err >&2; exit 3"), permanent=False) == (
            "RuntimeError: /bin/sh ended with status 3: err"
        )
        assert "was ended by signal 9: it said nothing" in error(await shell("kill -9 $$"), permanent=False)
        assert result(await shell("printf 123456789; printf 'a\\0b'>&2")) == {
            "stdout": "12345",
            "stderr": "a\N{REPLACEMENT CHARACTER}b",
            "cut": True,
        }
        assert result(await shell("yes | head -c 10000000; exec <&-"))["cut"] is True
        assert result(await shell("sleep 1000 & echo done"))["stdout"] == "done\n"  # its child has its output open
        missing = await allowed.run("command", '{"argv": ["/nowhere/program"]}')
        assert "cannot be started: No such file" in error(missing, permanent=False)


FAMILY = "trap '' TERM; sleep 1000 & echo $! $$ > {file}; wait; sleep 1000"


async def pids_in(file: Path) -> list[int]:
    def said() -> list[int]:
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []

    await wait_until_async(lambda: len(said()) == 2)
    return said()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize("how", ["timeout", "cancel", "crash"])
async def test_a_program_ends_with_its_attempt_and_takes_its_children_along(how: str, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    async with bench(command_allow="/bin/sh") as allowed:
        allowed.executors._grace = 20.0  # the task itself kills the program
        payload = json.dumps({"argv": ["/bin/sh", "-c", FAMILY.format(file=file)]})
        order = allowed.order("command", payload, timeout=1.0 if how == "timeout" else None)
        await allowed.begin(order)
        pids = await pids_in(file)
        assert all(map(alive, pids))
        if how == "cancel":
            allowed.executors.stop(order.attempt_id, Released("called off"))
        elif how == "crash":
            os.kill(allowed.executors._supervisor.live[0].pid, signal.SIGKILL)
        (outcome,) = await allowed.ended(order)
        if how != "crash":
            assert isinstance(outcome, TimedOut) if how == "timeout" else outcome == Released("called off")
            assert allowed.executors.restarts == 0
        await wait_until_async(lambda: not any(map(alive, pids)))


async def test_what_a_program_wrote_is_cut_where_its_result_would_be_too_large() -> None:
    async with bench(command_allow="/bin/sh", command_max_output=90_000) as allowed:
        script = "head -c 90000 /dev/zero; head -c 90000 /dev/zero >&2"  # each byte takes three as U+FFFD
        outcome = await allowed.run("command", json.dumps({"argv": ["/bin/sh", "-c", script]}))
        ran = result(outcome)
        assert isinstance(outcome, Completed)
    assert 99_990 < len(bytes(outcome.result)) <= 100_000
    assert ran["cut"] is True
    assert len(ran["stderr"]) == pytest.approx(len(ran["stdout"]), rel=0.01)


#: Grandchildren that have left the program's tree: in separate sessions, with ended parents.
STRAYS = {
    "a session of its own": "setsid sleep 1000 & echo $$ $$ > {file}; sleep 1000",
    "an orphan": "(setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000 & echo $!; wait' > {file} &); sleep 1000",
    "started while it ends": (
        'trap "setsid sh -c \'setsid sh -c \\"sleep 1000\\" & echo \\$!\' >> {file}; exit 0" TERM;'
        " printf '%s ' $$ > {file}; while :; do sleep 0.05; done"
    ),
}


@pytest.mark.parametrize("script", STRAYS.values(), ids=list(STRAYS))
async def test_grandchildren_that_left_their_program_end_with_its_attempt(script: str, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    async with bench(command_allow="/bin/sh") as allowed:
        allowed.executors._grace = 20.0
        before = _sleepers()
        payload = json.dumps({"argv": ["/bin/sh", "-c", script.format(file=file)]})
        outcome = await allowed.run("command", payload, timeout=1.0)
        assert isinstance(outcome, TimedOut)
        assert _sleepers() <= before
        assert not any(map(alive, await pids_in(file)))


def _sleepers() -> set[str]:
    """Return the pids of this test's processes, by their command line."""
    pids = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == b"sleep\01000\0":
                pids.add(folder.name)
    return pids


# ------------------------------------------------------------ http

Handler = Callable[[dict[str, Any], bytes], tuple[int, dict[str, str], bytes]]


@asynccontextmanager
async def site(handle: Handler) -> AsyncIterator[str]:
    """Serve `handle` on loopback; yield the URL."""

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status, headers, content = handle(scope, body)
        if status == 0:
            await asyncio.sleep(3600)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": content})

    async with serving(app, "127.0.0.1:0", "--http-addr", grace=0.1) as address:
        yield address.url.replace("localhost", "127.0.0.1")


def local(url: str, **more: Any) -> dict[str, Any]:
    return {"http_allow": url, "http_networks": "127.0.0.0/8", **more}


async def test_a_call_says_whose_it_is_and_brings_the_answer() -> None:
    requests: list[Any] = []

    def handle(scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        requests.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        return 201, {"content-type": "application/json"}, b'{"id": 1}'

    async with site(handle) as url, bench(**local(url)) as allowed:
        payload = {"url": f"{url}/orders?x=1", "body": {"a": [1]}, "headers": {"X-Own": "1"}}
        assert result(await allowed.run("http", json.dumps(payload))) == {
            "status": 201,
            "body": {"id": 1},
            "cut": False,
        }
    ((method, path, headers, body),) = requests
    assert (method, path, json.loads(body)) == ("POST", "/orders", {"a": [1]})
    assert headers[b"idempotency-key"] == b"taskd-job-1"
    assert (headers[b"taskd-attempt"], headers[b"x-own"]) == (b"7", b"1")
    assert headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    ("status", "headers", "permanent", "text"),
    [
        (404, {}, True, "answered with status 404"),
        (302, {"location": "http://169.254.169.254/"}, True, "leads to 'http://169.254.169.254/': not followed"),
        (500, {}, False, "answered with status 500"),
        (429, {"retry-after": "120"}, False, "to come back in 120 s"),
    ],
)
async def test_an_answer_says_whether_another_try_helps(
    status: int, headers: dict[str, str], permanent: bool, text: str
) -> None:
    async with site(lambda *_: (status, headers, b"")) as url, bench(**local(url)) as allowed:
        outcome = await allowed.run("http", json.dumps({"url": f"{url}/"}))
    assert text in error(outcome, permanent=permanent)
    assert isinstance(outcome, Failed)
    if "retry-after" in headers:
        assert outcome.again_at is not None
        assert timedelta(seconds=60) < outcome.again_at - datetime.now(UTC) < timedelta(seconds=121)


async def test_a_long_answer_is_cut_and_a_late_one_is_not_waited_for() -> None:
    def handle(scope: dict[str, Any], _: bytes) -> tuple[int, dict[str, str], bytes]:
        return (0, {}, b"") if scope["path"] == "/late" else (200, {}, b"x\0" * 1_000_000)

    async with site(handle) as url, bench(**local(url, http_max_response=10)) as allowed:
        cut = result(await allowed.run("http", json.dumps({"url": f"{url}/long", "method": "GET"})))
        assert cut == {"status": 200, "body": "x\N{REPLACEMENT CHARACTER}" * 5, "cut": True}
        late = await allowed.run("http", json.dumps({"url": f"{url}/late", "timeout": 0.3}))
        assert "did not answer within 0.3 s" in error(late, permanent=False)


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return head(*headers, f"Content-Length: {len(body)}", status=status) + body


def as_json(body: bytes, *headers: str) -> bytes:
    return whole(body, "Content-Type: application/json", *headers)


@asynccontextmanager
async def raw_site(answer: bytes, *, hold: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve this response to each request; yield the URL and the received requests. `hold`: never close a connection."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            if hold:
                await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


DEEP = b"[" * 100_000 + b"]" * 100_000
BLANK = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("answer", "body", "cut"),
    [
        # JSON that can be stored is JSON.
        (as_json(b'{"a": [1, 2.5, null]}'), {"a": [1, 2.5, None]}, False),
        (whole(b"[1]", "content-TYPE: Application/JSON; charset=utf-8"), [1], False),
        (as_json(b"\xef\xbb\xbf[1]"), [1], False),
        (as_json(b"[" * 199 + b"]" * 199), json.loads("[" * 199 + "]" * 199), False),
        # Other JSON is text.
        (as_json(b"[NaN]"), "[NaN]", False),
        (as_json(b"-Infinity"), "-Infinity", False),
        (as_json(b"[1e400]"), "[1e400]", False),
        (as_json(rb'{"a": "\u0000"}'), r'{"a": "\u0000"}', False),
        (as_json(rb'{"\u0000": 1}'), r'{"\u0000": 1}', False),
        (as_json(rb'["\ud800"]'), r'["\ud800"]', False),
        (as_json(rb'{"\udfff": 1}'), r'{"\udfff": 1}', False),
        (as_json(b'["\xed\xa0\x80"]'), f'["{BLANK * 3}"]', False),
        (as_json(b"[" * 200 + b"]" * 200), "[" * 200 + "]" * 200, False),
        (as_json(DEEP), DEEP.decode()[:50_000], True),
        (as_json(b"1" * 5000), "1" * 5000, False),
        (as_json(b'{"a": 1'), '{"a": 1', False),
        (as_json(b"[1] [2]"), "[1] [2]", False),
        (as_json(b""), "", False),
        # Text that cannot be stored is cleaned, and cut where its JSON would be too large for a result.
        (whole(b"a\0b\xff\xed\xa0\x80c"), f"a{BLANK}b{BLANK * 4}c", False),
        (whole("é".encode("latin-1"), "Content-Type: text/plain; charset=utf-9"), BLANK, False),
        (whole(b"x" * 50_001), "x" * 50_000, True),
        (as_json(b"[" + b"1," * 30_000 + b"1]"), ("[" + "1," * 30_000)[:50_000], True),
        # Responses without a body.
        (head("Content-Type: application/json", status="204 No Content"), "", False),
        (whole(b"", status="205 Reset Content"), "", False),
        (head("Content-Length: 5", status="204 No Content") + b"12345", "", False),
        (head("HTTP/1.1 200 OK", status="103 Early Hints") .replace(b"HTTP/1.1 200 OK\r\n", b"") + whole(b"x"), "x", False),
        # Bodies whose length differs from their headers.
        (head("Content-Length: 10") + b"12345", "12345", True),
        (head("Content-Length: 3") + b"12345", "123", False),
        (head("Transfer-Encoding: chunked") + b"5\r\n12345\r\n", "12345", True),
        (head("Transfer-Encoding: chunked") + b"5\r\n12345\r\nzz\r\n", "12345", True),
        (head() + b"12345", "12345", False),
        # Content codings.
        (as_json(gzip.compress(b"[1]", mtime=0), "Content-Encoding: gzip"), [1], False),
        (whole(gzip.compress(b"0" * 200_000_000, mtime=0), "Content-Encoding: gzip"), "0" * 50_000, True),
        (whole(gzip.compress(b"hello", mtime=0)[:-9], "Content-Encoding: gzip"), "hello", True),
        (whole(b"hello", "Content-Encoding: gzip"), "hello", False),
        (whole(b"hello", "Content-Encoding: br"), "hello", False),
        # Headers that break HTTP.
        (whole(b"x", "X-Odd: \xe9\xff"), "x", False),
        (whole(b"x", "X-Odd: a\x01b"), "x", False),
        (whole(b"x", "X-Odd: a\x00b"), "", True),
        (whole(b"x", "No colon"), "", True),
        (whole(b"x", "Content-Length: 7"), "", True),
        (head("Content-Length: abc") + b"x", "", True),
        (head("Transfer-Encoding: zip") + b"x", "", True),
        (head("X-Large: " + "x" * 200_000) + b"x", "", True),
        (b"HTTP/1.1 200 OK\r\n", "", True),
    ],
)  # fmt: skip
async def test_a_call_that_succeeded_is_not_repeated_for_its_answer(answer: bytes, body: Any, cut: bool) -> None:
    async with raw_site(answer) as (url, heads), bench(**local(url, http_max_response=50_000)) as allowed:
        got = result(await allowed.run("http", json.dumps({"url": f"{url}/"})))
    assert got.pop("status") in (200, 204, 205)
    assert got == {"body": body, "cut": cut}
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\x01" * 50_000, "text/plain"), (b"\xff" * 50_000, ""), (rb'["\u0001"' + rb',"\u0001"' * 5_000 + b"]", "")],
)
async def test_an_answer_whose_result_would_be_too_large_is_cut(content: bytes, kind: str) -> None:
    async with raw_site(whole(content, f"Content-Type: {kind}")) as (url, _), bench(**local(url)) as allowed:
        outcome = await allowed.run("http", json.dumps({"url": f"{url}/"}))
        got = result(outcome)
        assert isinstance(outcome, Completed)
    assert len(bytes(outcome.result)) <= 100_000
    assert got["cut"] is (len(bytes(outcome.result)) > 90_000)
    assert got["body"]


async def test_an_answer_that_stops_in_its_body_is_kept_when_the_time_is_over() -> None:
    async with (
        raw_site(head("Content-Length: 10") + b"12345", hold=True) as (url, heads),
        bench(**local(url)) as allowed,
    ):
        got = result(await allowed.run("http", json.dumps({"url": f"{url}/", "timeout": 0.5})))
    assert (got, len(heads)) == ({"status": 200, "body": "12345", "cut": True}, 1)
    assert b"\r\naccept-encoding: identity\r\n" in heads[0].lower()


@pytest.mark.parametrize(
    ("answer", "permanent", "text"),
    [
        (head("Content-Length: 9", status="404 Not Found") + b"1", True, "answered with status 404"),
        (head("Content-Length: abc", status="404 Not Found"), True, "answered with status 404"),
        (head("Content-Length: 9", status="503 Service Unavailable"), False, "answered with status 503"),
        (head(status="304 Not Modified"), True, "answered with status 304"),
        (b"", False, "cannot be called"),
        (b"ICY 200 OK\r\n\r\n", False, "cannot be called"),
    ],
)
async def test_an_answer_that_breaks_off_is_judged_by_its_status(answer: bytes, permanent: bool, text: str) -> None:
    async with raw_site(answer) as (url, _), bench(**local(url)) as allowed:
        assert text in error(await allowed.run("http", json.dumps({"url": f"{url}/"})), permanent=permanent)


#: Paths that leave "/api/" for some server or other, or that some might decode so.
CLIMBING = (
    "/api/../x",
    "/api/%2e%2e/x",
    "/api/./x",
    "/api/..;x",
    "/api/..;/x",
    "/api/..%5cx",
    "/api/%252e%252e/x",
    "/api/%2E./x",
    "/api/..%00/x",
    "/api/..%00",
    "/api/%00../x",
    "/api/..%2500/x",
    "/api/..%20/x",
    "/api/%09../x",
    "/api/..%23x",
    "/api/..%3Fx",
    "/api/..%2f..%2fx",
    "/api/..::$DATA/x",
    "/api/%c0%ae%c0%ae/x",
    "/api/%e0%80%ae./x",
    "/api/%u002e%u002e/x",
    "/api/%ef%bc%8e%ef%bc%8e/x",
    "/api/%E2%80%A5/x",
    "//api/x",
    "/x/../api/x",
    "/api/..#/x",
)
#: Other URLs than the allowed one, or other texts of its host, which programs may read in several ways.
OTHER_URLS = (
    "https://127.0.0.1:{port}/api/x",
    "http://127.0.0.1:{port}@127.0.0.2:{port}/api/x",
    "http://127.0.0.2:{port}/api/x",
    "http://127.0.0.1/api/x",
    "http://127.0.0.1:{port}\\@127.0.0.2/api/x",
    "file:///etc/passwd",
    "//127.0.0.1/api/x",
    "http://[::1/api/x",
    "",
    "http://127.1:{port}/api/x",
    "http://2130706433:{port}/api/x",
    "http://0x7f000001:{port}/api/x",
    "http://0x7f.0.0.1:{port}/api/x",
    "http://0177.0.0.1:{port}/api/x",
    "http://127.0.0.1..:{port}/api/x",
    "http://127.0.0.01:{port}/api/x",
    "http://%31%32%37.0.0.1:{port}/api/x",
    "http://[::ffff:127.0.0.1]:{port}/api/x",
    "http://@127.0.0.1:{port}/api/x",
    "http://127.0.0.1:{port}:80/api/x",
    "http://127.0.0.1%00:{port}/api/x",
    "http://127.0.0.1;x:{port}/api/x",
    "http:/127.0.0.1:{port}/api/x",
    "http:127.0.0.1:{port}/api/x",
)
#: Headers that a task may not set.
BAD_HEADERS: tuple[dict[str, str], ...] = (
    {"Host": "x"},
    {"Transfer-Encoding": "chunked"},
    {"x": "a\r\nb: c"},
    {"x y": "a"},
    {"x": "é"},
    {"x": " a"},
    {"": "a"},
)
#: Paths below "/api/".
BENEATH = (
    "/api/x/y",
    "/api/x;y?a=..&b=;c",
    "/api/...;x",
    "/api/x//y",
    "/api/.well-known",
    "/api/a..b",
    "/api/%C3%A9#..",
)


async def test_what_is_not_beneath_an_allowed_url_is_not_called() -> None:
    called: list[str] = []

    def handle(scope: dict[str, Any], _: bytes) -> tuple[int, dict[str, str], bytes]:
        called.append(scope["path"])
        return 200, {}, b""

    async with site(handle) as url, bench(**local(f"{url}/api/")) as allowed:

        async def call(target: str, **more: Any) -> Outcome:
            return await allowed.run("http", json.dumps({"url": target, **more}))

        for path in ("/", "/api", "/apis/x", "/API/x", "/api/é", "/api/a b", *CLIMBING):
            error(await call(f"{url}{path}"), permanent=True)
        port = url.rpartition(":")[2]
        for other in OTHER_URLS:
            error(await call(other.replace("{port}", port)), permanent=True)
        for headers in BAD_HEADERS:
            error(await call(f"{url}/api/x", headers=headers), permanent=True)
        assert called == []
        for path in BENEATH:
            result(await call(f"{url}{path}"))
        for other in (f"HTTP://127.0.0.1.:{port}/api/z", f"http://127.0.0.1:0{port}/api/z"):
            result(await call(other))
        paths = ["/api/x/y", "/api/x;y", "/api/...;x", "/api/x//y", "/api/.well-known", "/api/a..b", "/api/é"]
        assert called == [*paths, "/api/z", "/api/z"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com:0/x", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://a..b/", "http://.a/", "http://-a/",
        "http://a%2eb/", "http://b\u00fccher.example/", "http://" + "a" * 64 + ".example/", "http://1/", "http://0x/",
        "http://a.0x10/", "http://256.1.1.1/", "http://example.com:65536/", "http://example.com:-1/", "http://a b/",
        "\thttp://example.com/", "http://example.com/\r\nx", "http:///x", "ftp://example.com/", "http://user:pw@example.com/",
    ],
)  # fmt: skip
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        parse_url(url)


def test_the_forms_of_one_url_are_one_place() -> None:
    for url in (
        "https://api.example.com",
        "HTTPS://API.Example.COM.:443/",
        "https://api.example.com:/",
        "https://api.example.com:0443/#x",
    ):
        assert parse_url(url) == parse_url("https://api.example.com/")
    assert parse_url("http://[::FFFF:7f00:1]:8080/").authority == parse_url("http://[::ffff:127.0.0.1]:8080/").authority
    assert parse_url("http://[::1]:8080/").authority == "[::1]:8080"
    assert parse_url("http://xn--bcher-kva.example/").authority == "xn--bcher-kva.example"


async def test_an_address_that_is_not_public_is_not_called_unless_its_network_is_listed() -> None:
    async with site(lambda *_: (200, {}, b"")) as url, bench(http_allow=url) as allowed:
        text = error(await allowed.run("http", json.dumps({"url": f"{url}/"})), permanent=True)
    assert "127.0.0.1 is no public address" in text


async def test_one_bad_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    async def resolve(*_: Any, **__: Any) -> Any:
        return addresses

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(NotAllowed, match=r"x \(10\.0\.0\.1\) is no public"):
        await CheckedBackend([]).connect_tcp("x", 80)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "192.0.0.192", "192.0.0.9", "192.88.99.1", "198.19.0.1", "198.51.100.1", "203.0.113.1", "192.31.196.1", "192.52.193.1",
        "192.175.48.1", "168.63.129.16", "100.100.100.200", "fec0::1", "fd00:ec2::254", "fd20:ce::254", "::8.8.8.8",
        "::10.0.0.1", "::ffff:168.63.129.16", "64:ff9b:1::8.8.8.8", "64:ff9b::168.63.129.16", "64:ff9b::192.0.0.192",
        "100::1", "100:0:0:1::1",
        "2001::1", "2001:0:808:808::1", "2001:2::1", "2001:10::1", "2001:20::1", "2002:808:808::", "2002:a00:1::",
        "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1", "::ffff:0:8.8.8.8",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet(text: str) -> None:
    assert not public(embedded(ip_address(text)))


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "93.184.215.14",
        "168.63.129.17",
        "192.0.1.1",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_an_address_of_the_internet(text: str) -> None:
    assert public(embedded(ip_address(text)))


def test_a_listed_network_counts_for_the_address_that_is_meant() -> None:
    assert ip_address("10.1.2.3") in networks("10.1.0.0/16, fd00::/8")[0]
    assert parse_url("HTTP://Example.com").host == "example.com"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"command_allow": "echo"}, "'echo' is no absolute path"),
        ({"http_allow": "example.com"}, "key 'http_allow': 'example.com' must be a plain URL"),
        ({"http_allow": "https://a", "http_networks": "10.1.2.3/8"}, "key 'http_networks'"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_reported_at_the_start(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(TaskSettings(**settings))
    with pytest.raises(ConfigurationError, match=complaint):
        async with bench(**settings):
            pass
