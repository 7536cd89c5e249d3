"""Tests that the asynchronous client follows the rules of the blocking one when servers misbehave."""

from __future__ import annotations

import inspect
import socket
from contextlib import AsyncExitStack

import pytest

from taskd.client import Client, ClientError
from taskd.client.asynchronous import AsyncClient
from taskd.client.requests import ClientRequest, keyed_batch, submission
from tests.fake_server import AWAY, JOB, UNSURE, idempotency_key, listening, response

BODY = b'{"payload":1}'


async def test_a_submit_is_repeated_with_the_key_that_it_had() -> None:
    with listening(None, UNSURE, JOB) as (url, asked):
        async with AsyncClient(url) as client:
            await client.ask(submission(BODY, deduped=False))
    assert len(asked) == 3
    assert len(set(map(idempotency_key, asked))) == 1


async def test_a_batch_with_a_key_is_repeated() -> None:
    with listening(None, response("201 Created", {"ids": [1]})) as (url, asked):
        async with AsyncClient(url) as client:
            assert await client.ask(keyed_batch(b'{"jobs":[{"payload":1}]}')) == {"ids": [1]}
    assert len(set(map(idempotency_key, asked))) == 1


@pytest.mark.parametrize("reply", [None, UNSURE])
async def test_a_request_with_an_unknown_outcome_is_not_repeated_without_a_key(reply: bytes | None) -> None:
    with listening(reply, JOB) as (url, asked):
        async with AsyncClient(url) as client:
            with pytest.raises(ClientError, match="it is unknown whether it was done"):
                await client.ask(ClientRequest("POST", "/jobs/batch", body=BODY, safe=False))
        assert len(asked) == 1


async def test_a_request_that_was_not_carried_out_is_repeated() -> None:
    with listening(AWAY, JOB) as (url, asked):
        async with AsyncClient(url) as client:
            await client.ask(ClientRequest("POST", "/jobs/batch", body=BODY, safe=False))
        assert len(asked) == 2


async def test_the_next_address_is_tried_and_comes_first_from_then_on() -> None:
    async with AsyncExitStack() as stack:
        tired, refused = stack.enter_context(listening(AWAY, AWAY))
        awake, asked = stack.enter_context(listening(*[response("200 OK", {"id": 5})] * 2))
        client = await stack.enter_async_context(AsyncClient(f"http://127.0.0.1:1,{tired},{awake}", patience=0))
        assert await client.job(5) == {"id": 5}
        assert await client.job(5) == {"id": 5}
        assert asked[0].startswith(b"GET /jobs/5 HTTP/1.1\r\n")
        assert (len(refused), len(asked)) == (1, 2)


async def test_a_client_that_never_had_a_response_fails_at_once() -> None:
    async with AsyncClient("http://127.0.0.1:1", patience=600) as client:
        with pytest.raises(ClientError, match=r"no scheduler can be reached at http://127\.0\.0\.1:1 ") as raised:
            await client.job(5)
    assert raised.value.status is None


async def test_a_server_that_hangs_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncClient(url, timeout=0.05, patience=0) as client:
            with pytest.raises(ClientError, match=r"did not answer GET /jobs/5 \(no answer in time\)"):
                await client.job(5)


async def test_the_token_is_sent_in_its_header() -> None:
    with listening(response("200 OK", {})) as (url, asked):
        async with AsyncClient(url, token="secret") as client:
            await client.job(5)
    assert b"\r\nauthorization: bearer secret\r\n" in asked[0].lower()


@pytest.mark.parametrize(
    "reply", [response("200 OK", 1)[:-1] + b"<", b"SSH-2.0-x\r\n", response("500 Oops", "x"), None]
)
async def test_a_server_that_is_no_scheduler_is_named_in_the_error(reply: bytes | None) -> None:
    with listening(*[reply] * 2) as (url, _):
        async with AsyncClient(url, patience=0) as client:
            with pytest.raises(ClientError, match=url):
                await client.job(5)


async def test_a_cancel_with_a_lost_response_is_repeated_and_finds_the_job_cancelled() -> None:
    late = response("409 Conflict", {"detail": "job 5 is cancelled: it is too late", "job_status": "cancelled"})
    job = response("200 OK", {"id": 5, "status": "cancelled"})
    with listening(None, late, job) as (url, asked):
        async with AsyncClient(url) as client:
            assert await client.cancel(5) == {"id": 5, "status": "cancelled"}
    starts = [request.split(b" HTTP")[0] for request in asked]
    assert starts == [b"POST /jobs/5/cancel", b"POST /jobs/5/cancel", b"GET /jobs/5"]


def test_the_two_clients_have_the_same_methods() -> None:
    def surface(kind: type) -> dict[str, str]:
        methods = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {
            name: str(inspect.signature(method)).replace("AsyncIterator", "Iterator")
            for name, method in methods.items()
        }

    assert surface(AsyncClient) == surface(Client)


async def test_pages_of_schedules_are_followed() -> None:
    first = response("200 OK", [{"name": "a"}], 'Link: </schedules?cursor=a>; rel="next"')
    with listening(first, response("200 OK", [{"name": "b"}])) as (url, asked):
        async with AsyncClient(url) as client:
            assert [schedule["name"] for schedule in await client.schedules()] == ["a", "b"]
    assert asked[1].startswith(b"GET /schedules?cursor=a HTTP/1.1\r\n")


async def test_a_selection_goes_on_at_the_cursor_and_a_lost_cancel_finds_the_job_cancelled() -> None:
    pages = [response("200 OK", {"ids": [1], "cursor": 7}), response("200 OK", {"ids": [2], "cursor": None})]
    late = response("409 Conflict", {"detail": "job 5 is cancelled: it is too late", "job_status": "cancelled"})
    with listening(*pages, late, response("200 OK", {"id": 5, "status": "cancelled"})) as (url, asked):
        async with AsyncClient(url) as client:
            assert [page["ids"] async for page in client.select("retry", {"status": "failed"})] == [[1], [2]]
            assert await client.cancel(5) == {"id": 5, "status": "cancelled"}
    assert asked[1].endswith(b'{"status": "failed", "cursor": 7}')
