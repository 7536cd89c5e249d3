"""The built-in tasks `command` and `http`: they do what is allowed, and nothing that is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from taskd.app.addresses import CheckedBackend, NotAllowed, embedded, networks, public
from taskd.app.calls import locate
from taskd.app.outward import build
from taskd.domain.errors import ConfigurationError
from taskd.domain.outcome import Completed, Failed, Outcome, Released, TimedOut
from taskd.runtime.serve import serving
from taskd.settings import Tasks
from tests.integration.test_executors import Bench
from tests.servers import wait_until_async

CANARY = "c4n4ry-5ecret"


@asynccontextmanager
async def bench(**settings: Any) -> AsyncIterator[Bench]:
    made = Bench(tasks=Tasks(**settings))
    await made.executors.start()
    try:
        yield made
    finally:
        await made.executors.close()


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
    async with bench(command_allow="/bin/echo, /bin/cat") as own:
        argv = ["/bin/echo", "$HOME; ls *", "`id`", "a b", ""]
        ran = result(await own.run("command", json.dumps({"argv": argv})))
        assert ran == {"stdout": "$HOME; ls * `id` a b \n", "stderr": "", "cut": False}
        fed = result(await own.run("command", json.dumps({"argv": ["/bin/cat"], "stdin": "é\n"})))
        assert fed["stdout"] == "é\n"
        for _ in range(20):  # it ends without reading, sometimes before it is given anything
            unread = {"argv": ["/bin/echo", "x"], "stdin": "x" * 1_000_000}
            assert result(await own.run("command", json.dumps(unread)))["stdout"] == "x\n"


@pytest.mark.parametrize(
    "argv", [[], ["echo"], ["/bin/sh", "-c", "id"], ["/bin/../bin/echo"], ["/bin/echo\u0001"], [""]]
)
async def test_a_program_that_is_not_listed_does_not_run(argv: list[str]) -> None:
    async with bench(command_allow="/bin/echo") as own:
        text = error(await own.run("command", json.dumps({"argv": argv})), permanent=True)
    assert "is no program that this worker may run" in text


async def test_a_program_does_not_see_what_the_worker_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_DSN", CANARY)
    monkeypatch.setenv("LD_PRELOAD", "")
    async with bench(command_allow="/usr/bin/env") as own:
        ran = result(await own.run("command", '{"argv": ["/usr/bin/env"]}'))
    names = {line.partition("=")[0] for line in ran["stdout"].splitlines()}
    assert CANARY not in ran["stdout"]
    assert (
        {"TASKD_JOB", "TASKD_ATTEMPT", "TASKD_RUN"}
        <= names
        <= {"TASKD_JOB", "TASKD_ATTEMPT", "TASKD_RUN", "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    )


async def test_how_a_program_ends_is_how_its_attempt_ends() -> None:
    async with bench(command_allow="/bin/sh,/nowhere/program", command_max_output=5) as own:

        async def shell(script: str) -> Outcome:
            return await own.run("command", json.dumps({"argv": ["/bin/sh", "-c", script]}))

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
        missing = await own.run("command", '{"argv": ["/nowhere/program"]}')
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
    async with bench(command_allow="/bin/sh") as own:
        own.executors._grace = 20.0  # the task itself ends what does not end
        payload = json.dumps({"argv": ["/bin/sh", "-c", FAMILY.format(file=file)]})
        order = own.order("command", payload, timeout=1.0 if how == "timeout" else None)
        await own.begin(order)
        pids = await pids_in(file)
        assert all(map(alive, pids))
        if how == "cancel":
            own.executors.stop(order.job_id, 7, Released("called off"))
        elif how == "crash":
            os.kill(own.executors._live[0].pid, signal.SIGKILL)
        (outcome,) = await own.ended(order)
        if how != "crash":
            assert isinstance(outcome, TimedOut) if how == "timeout" else outcome == Released("called off")
            assert own.executors.restarts == 0
        await wait_until_async(lambda: not any(map(alive, pids)))


#: Grandchildren that have left the program's tree: in sessions of their own, and their parents have ended.
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
    async with bench(command_allow="/bin/sh") as own:
        own.executors._grace = 20.0
        before = _sleepers()
        payload = json.dumps({"argv": ["/bin/sh", "-c", script.format(file=file)]})
        outcome = await own.run("command", payload, timeout=1.0)
        assert isinstance(outcome, TimedOut)
        assert _sleepers() <= before
        assert not any(map(alive, await pids_in(file)))


def _sleepers() -> set[str]:
    """The processes of this test, by their command line."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == b"sleep\01000\0":
                found.add(folder.name)
    return found


# ------------------------------------------------------------ http

Handler = Callable[[dict[str, Any], bytes], tuple[int, dict[str, str], bytes]]


@asynccontextmanager
async def site(handle: Handler) -> AsyncIterator[str]:
    """A server on loopback; its URL."""

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
    seen: list[Any] = []

    def handle(scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        return 201, {"content-type": "application/json"}, b'{"id": 1}'

    async with site(handle) as url, bench(**local(url)) as own:
        payload = {"url": f"{url}/orders?x=1", "body": {"a": [1]}, "headers": {"X-Own": "1"}}
        assert result(await own.run("http", json.dumps(payload))) == {"status": 201, "body": {"id": 1}, "cut": False}
    ((method, path, headers, body),) = seen
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
    async with site(lambda *_: (status, headers, b"")) as url, bench(**local(url)) as own:
        outcome = await own.run("http", json.dumps({"url": f"{url}/"}))
    assert text in error(outcome, permanent=permanent)
    assert isinstance(outcome, Failed)
    if "retry-after" in headers:
        assert outcome.again_at is not None
        assert timedelta(seconds=60) < outcome.again_at - datetime.now(UTC) < timedelta(seconds=121)


async def test_a_long_answer_is_cut_and_a_late_one_is_not_waited_for() -> None:
    def handle(scope: dict[str, Any], _: bytes) -> tuple[int, dict[str, str], bytes]:
        return (0, {}, b"") if scope["path"] == "/late" else (200, {}, b"x\0" * 1_000_000)

    async with site(handle) as url, bench(**local(url, http_max_response=10)) as own:
        cut = result(await own.run("http", json.dumps({"url": f"{url}/long", "method": "GET"})))
        assert cut == {"status": 200, "body": "x\N{REPLACEMENT CHARACTER}" * 5, "cut": True}
        late = await own.run("http", json.dumps({"url": f"{url}/late", "timeout": 0.3}))
        assert "did not answer within 0.3 s" in error(late, permanent=False)


async def test_what_is_not_beneath_an_allowed_url_is_not_called() -> None:
    called: list[str] = []

    def handle(scope: dict[str, Any], _: bytes) -> tuple[int, dict[str, str], bytes]:
        called.append(scope["path"])
        return 200, {}, b""

    async with site(handle) as url, bench(**local(f"{url}/api/")) as own:
        climbing = (
            "/api/../x",
            "/api/%2e%2e/x",
            "/api/./x",
            "/api/..;x",
            "/api/..;/x",
            "/api/..%5cx",
            "/api/%252e%252e/x",
        )
        for path in ("/", "/api", "/apis/x", "/API/x", "/api/é", "/api/a b", *climbing):
            error(await own.run("http", json.dumps({"url": f"{url}{path}"})), permanent=True)
        port = url.rpartition(":")[2]
        for other in (
            f"https://127.0.0.1:{port}/api/x",
            f"http://127.0.0.1:{port}@127.0.0.2:{port}/api/x",
            f"http://127.0.0.2:{port}/api/x",
            "http://127.0.0.1/api/x",
            f"http://127.0.0.1:{port}\\@127.0.0.2/api/x",
            "file:///etc/passwd",
            "//127.0.0.1/api/x",
            "http://[::1/api/x",
            "",
        ):
            error(await own.run("http", json.dumps({"url": other})), permanent=True)
        for headers in ({"Host": "x"}, {"Transfer-Encoding": "chunked"}, {"x": "a\r\nb: c"}, {"x y": "é"}):
            error(await own.run("http", json.dumps({"url": f"{url}/api/x", "headers": headers})), permanent=True)
        assert called == []
        for path in ("/api/x/y", "/api/x;y?a=..&b=;c", "/api/...;x"):
            result(await own.run("http", json.dumps({"url": f"{url}{path}"})))
        assert called == ["/api/x/y", "/api/x;y", "/api/...;x"]


async def test_an_address_that_is_not_public_is_not_called_unless_its_network_is_listed() -> None:
    async with site(lambda *_: (200, {}, b"")) as url, bench(http_allow=url) as own:
        text = error(await own.run("http", json.dumps({"url": f"{url}/"})), permanent=True)
    assert "127.0.0.1 is no public address" in text


async def test_one_bad_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    async def resolve(*_: Any, **__: Any) -> Any:
        return answers

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(NotAllowed, match=r"x \(10\.0\.0\.1\) is no public"):
        await CheckedBackend([]).connect_tcp("x", 80)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet(text: str) -> None:
    assert not public(embedded(ip_address(text)))


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_an_address_of_the_internet(text: str) -> None:
    assert public(embedded(ip_address(text)))


def test_a_listed_network_counts_for_the_address_that_is_meant() -> None:
    assert ip_address("10.1.2.3") in networks("10.1.0.0/16, fd00::/8")[0]
    assert locate("HTTP://Example.com").host == "example.com"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"command_allow": "echo"}, "'echo' is no absolute path"),
        ({"http_allow": "example.com"}, "key 'http_allow': 'example.com' must be a plain URL"),
        ({"http_allow": "https://a", "http_networks": "10.1.2.3/8"}, "key 'http_networks'"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_told_at_the_start(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(Tasks(**settings))
    with pytest.raises(ConfigurationError, match=complaint):
        async with bench(**settings):
            pass
