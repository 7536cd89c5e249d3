"""Tests of both clients: deadlines, addresses and tokens, and unknown outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskd.client import Client, ClientError, OutcomeUnknown
from taskd.client.asynchronous import AsyncClient
from taskd.client.requests import ClientRequest
from taskd.client.servers import ServerAddress, ServerList
from taskd.domain.errors import InvalidJob
from tests.fake_server import AWAY, UNSURE, deaf, listening, response, silent

UNREACHABLE = "http://127.0.0.1:1"
RUNNING = response("200 OK", {"id": 5, "status": "running"})
DONE = response("200 OK", {"id": 5, "status": "completed"})
#: Seconds that a wait of a tenth of a second may take on a busy machine, and would take without a deadline.
SOON, LONG = 10.0, 40.0

Ask = Callable[..., Awaitable[Any]]
Opener = Callable[..., Any]


@asynccontextmanager
async def asynchronous(url: str, **settings: Any) -> AsyncIterator[Ask]:
    async with AsyncClient(url, **settings) as client:
        yield lambda method, *args: getattr(client, method)(*args)


@asynccontextmanager
async def blocking(url: str, **settings: Any) -> AsyncIterator[Ask]:
    with Client(url, **settings) as client:
        yield lambda method, *args: asyncio.to_thread(getattr(client, method), *args)


@pytest.fixture(params=[asynchronous, blocking])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Return a function that opens a client and yields a caller of its methods."""
    opener: Opener = request.param
    return opener


async def given_up(ask: Ask, seconds: float, message: str) -> None:
    """Check that a wait raises TimeoutError, neither before its time nor long after it."""
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=message):
        await ask("wait", 5, seconds)
    assert seconds <= time.monotonic() - began < SOON


async def test_a_wait_ends_in_time_although_the_schedulers_hang(opened: Opener) -> None:
    with silent() as first, silent() as second:
        async with opened(f"{first},{second}", timeout=LONG, patience=LONG) as ask:
            await given_up(
                ask, 0.1, r"no answer in the time given: .* did not answer GET /jobs/5 \(no answer in time\)"
            )


async def test_a_wait_ends_in_time_although_no_connection_is_made(opened: Opener) -> None:
    with deaf() as first, deaf() as second:
        async with opened(f"{first},{second}", timeout=LONG, patience=LONG) as ask:
            await given_up(ask, 0.1, "no scheduler can be reached")


async def test_a_wait_ends_in_time_although_a_retry_might_help(opened: Opener) -> None:
    with listening(*[AWAY] * 100) as (url, asked):
        async with opened(url, patience=LONG) as ask:
            await given_up(ask, 1.0, "PostgreSQL is away")
        assert len(asked) > 1


GONE = response("404 Not Found", {"detail": "there is no schedule 'nightly'"})
REMOVED = response("200 OK", {"name": "nightly", "removed": True})


@pytest.mark.parametrize("lost", [None, UNSURE])
@pytest.mark.parametrize("then", [GONE, REMOVED])
async def test_a_schedule_whose_removal_lost_its_answer_is_removed(
    opened: Opener, lost: bytes | None, then: bytes
) -> None:
    with listening(lost, AWAY, then) as (url, asked):
        async with opened(url) as ask:
            assert await ask("remove_schedule", "nightly") == {"name": "nightly", "removed": True}
        assert {request.split(b" HTTP")[0] for request in asked} == {b"DELETE /schedules/nightly"}


@pytest.mark.parametrize("before", [[], [AWAY]])
async def test_an_unknown_schedule_is_not_removed(opened: Opener, before: list[bytes]) -> None:
    with listening(*before, GONE) as (url, _):
        async with opened(url) as ask:
            with pytest.raises(ClientError, match="there is no schedule") as raised:
                await ask("remove_schedule", "nightly")
    assert raised.value.status == 404


async def test_a_server_that_was_not_reached_in_time_is_tried_first_the_next_time(opened: Opener) -> None:
    with silent() as hung, listening(DONE) as (awake, _):
        async with opened(f"{hung},{awake}", timeout=LONG) as ask:
            await given_up(ask, 0.1, hung)
            assert (await ask("wait", 5, 0.1))["status"] == "completed"


async def test_a_failure_before_the_time_is_over_is_no_timeout(opened: Opener) -> None:
    async with opened(UNREACHABLE, patience=LONG) as ask:
        with pytest.raises(ClientError, match="no scheduler can be reached"):
            await ask("wait", 5, LONG)


async def test_a_wait_of_zero_seconds_shows_the_job(opened: Opener) -> None:
    with listening(RUNNING) as (url, asked):
        async with opened(url) as ask:
            assert (await ask("wait", 5, 0))["status"] == "running"
        assert asked[0].startswith(b"GET /jobs/5 HTTP")


async def test_the_seconds_of_a_long_poll_do_not_count_for_connecting(opened: Opener) -> None:
    with deaf() as dead, listening(DONE) as (awake, _):
        async with opened(f"{dead},{awake}", timeout=0.2) as ask:
            began = time.monotonic()
            assert (await ask("job", 5, LONG))["status"] == "completed"
            assert time.monotonic() - began < SOON


async def test_a_schedule_with_an_unknown_outcome_is_reported(opened: Opener) -> None:
    with listening(None) as (url, _):
        async with opened(url) as ask:
            with pytest.raises(ClientError, match="may have been made or not: see taskd schedule list") as raised:
                await ask("ask", ClientRequest("POST", "/schedules", body=b"{}", safe=False))
    assert "dedupe_key" not in str(raised.value)


async def test_space_around_a_token_is_ignored(opened: Opener) -> None:
    with listening(response("200 OK", {})) as (url, asked):
        async with opened(url, token=" secret\n") as ask:
            await ask("get", "/leader")
    assert b"\r\nauthorization: bearer secret\r\n" in asked[0].lower()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["two\nlines", "a\0b", "schlüssel", "\udcff"])
def test_an_invalid_token_is_refused_and_not_shown(kind: type[Client | AsyncClient], token: str) -> None:
    with pytest.raises(ClientError, match=r"^TASKD_TOKEN is not a token") as raised:
        kind(UNREACHABLE, token=token)
    assert token not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://foo..bar:8080",
        "http://.foo",
        f"http://{'x' * 64}.org",
        "http://[::1",
        "http://x/a b",
        "http://x/ü",
        "http://x\0y",
        "http://x#y",
        "http://u:p@x",
        "http://:8080",
    ],
)
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(ClientError, match="is not a server address: write it as http://HOST:PORT"):
        ServerList(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:hunter2@host:8080",
        "ada:hunter2@host",
        "https://:hunter2@host",
        "http://ada:x/hunter2@host",
        "http://ada/hunter2@host",
        "http://ada:x,hunter2@host",
        "http://ada:x@hunter2@host",
        "http://ada:x#hunter2@host",
        "http://ada:x?hunter2@host",
        "http://fine,http://ada:hunter2@host",
        "http://host:8080?token=hunter2",
        "http://host:8080#hunter2",
        "ftp://ada:hunter2@host",
    ],
)
def test_a_password_in_an_address_is_never_shown(url: str) -> None:
    with pytest.raises(ClientError, match="is not a server address") as refused:
        ServerList(url)
    assert "hunter2" not in str(refused.value)
    assert "host" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("http://[::1]", ServerAddress("http://[::1]", False, "::1", 80, "")),
        ("https://x/api/", ServerAddress("https://x/api", True, "x", 443, "/api")),
        ("x:8080", ServerAddress("http://x:8080", False, "x", 8080, "")),
        (
            "http://bücher.example",
            ServerAddress("http://xn--bcher-kva.example:80", False, "xn--bcher-kva.example", 80, ""),
        ),
    ],
)
def test_an_address_is_split(text: str, server: ServerAddress) -> None:
    assert list(ServerList(text)) == [server]


REFUSED = response("503 Service Unavailable", {"detail": "the schema does not fit"})


@pytest.mark.parametrize(
    "replies",
    [
        [UNSURE] * 50,  # PostgreSQL hangs
        [None] * 50,  # closed after the request
        [UNSURE, *[REFUSED] * 50],  # later refusals do not undo it
    ],
    ids=["unsure", "hung up", "unsure, then refused"],
)
async def test_an_outcome_that_stays_unknown_is_raised(opened: Opener, replies: list[bytes | None]) -> None:
    with listening(*replies) as (url, asked):
        async with opened(url, patience=0.5) as ask:
            with pytest.raises(OutcomeUnknown, match="it is unknown whether it was stored") as raised:
                await ask("submit", {"payload": 1})
        keys = {header.lower().partition(b"idempotency-key: ")[2].partition(b"\r\n")[0].decode() for header in asked}
    assert len(asked) > 1
    assert keys == {raised.value.key}
    assert raised.value.unknown


async def test_an_outcome_that_becomes_known_is_returned(opened: Opener) -> None:
    with listening(UNSURE, None, UNSURE, response("200 OK", {"id": 1, "status": "completed", "duplicate": True})) as (
        url,
        _,
    ):
        async with opened(url, patience=LONG) as ask:
            assert (await ask("submit", {"payload": 1}))["id"] == 1


@pytest.mark.parametrize(("method", "arguments"), [("submit", [{"payload": 1}]), ("job", [1])])
async def test_unsent_requests_and_reads_have_no_unknown_outcome(
    opened: Opener, method: str, arguments: list[Any]
) -> None:
    replies = [REFUSED] * 50 if method == "submit" else [UNSURE] * 50
    with listening(*replies) as (url, _):
        async with opened(url, patience=0.3) as ask:
            with pytest.raises(ClientError) as raised:
                await ask(method, *arguments)
    assert not raised.value.unknown


async def test_a_job_that_is_refused_is_invalid(opened: Opener) -> None:
    errors = [{"field": "payload", "message": "is nested too deeply"}]
    with listening(response("422 Unprocessable Entity", {"detail": "x", "errors": errors})) as (url, _):
        async with opened(url) as ask:
            with pytest.raises(InvalidJob, match="payload: is nested too deeply") as raised:
                await ask("submit", {"payload": 1})
    assert isinstance(raised.value, ClientError)
    assert raised.value.status == 422
