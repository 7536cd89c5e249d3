"""Tests of the client against servers that misbehave, and of the executable against a real API."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import ExitStack

import pytest

from taskd.client import Client, ClientError
from tests.fake_server import AWAY, JOB, UNSURE, idempotency_key, listening, response
from tests.integration.api_stack import api_on


def test_a_batch_without_dedupe_keys_is_not_repeated_when_its_answer_is_lost() -> None:
    with listening(None, JOB) as (url, asked), Client(url) as client:
        with pytest.raises(ClientError, match="it is unknown whether it was done"):
            client.submit_batch([{"payload": 1}])
        assert len(asked) == 1


def test_a_submit_without_dedupe_key_is_repeated_with_the_key_that_it_had() -> None:
    with listening(None, JOB, JOB) as (url, asked), Client(url) as client:
        assert client.submit({"payload": 1})["id"] == 1
        client.submit({"payload": 1})
    first, second, other = map(idempotency_key, asked)
    assert first == second != other


def test_a_submit_with_dedupe_key_is_repeated_until_it_is_answered() -> None:
    with listening(None, JOB) as (url, asked), Client(url) as client:
        assert client.submit({"payload": 1, "dedupe_key": "k"})["id"] == 1
        assert len(asked) == 2


def test_a_submit_that_was_not_stored_is_repeated() -> None:
    with listening(AWAY, JOB) as (url, asked), Client(url) as client:
        assert client.submit({"payload": 1})["id"] == 1
        assert len(asked) == 2


def test_a_batch_with_an_unknown_outcome_is_not_repeated() -> None:
    with listening(UNSURE, JOB) as (url, asked), Client(url) as client:
        with pytest.raises(ClientError, match="it is unknown whether it was done"):
            client.submit_batch([{"payload": 1}])
        assert len(asked) == 1


def test_a_cancel_with_a_lost_response_is_repeated_and_finds_the_job_cancelled() -> None:
    late = response("409 Conflict", {"detail": "job 5 is cancelled: it is too late", "job_status": "cancelled"})
    job = response("200 OK", {"id": 5, "status": "cancelled"})
    with listening(None, late, job) as (url, asked), Client(url) as client:
        assert client.cancel(5) == {"id": 5, "status": "cancelled"}
        starts = [request.split(b" HTTP")[0] for request in asked]
        assert starts == [b"POST /jobs/5/cancel", b"POST /jobs/5/cancel", b"GET /jobs/5"]


def test_a_cancel_that_is_too_late_says_how_the_job_ended() -> None:
    late = response("409 Conflict", {"detail": "job 5 is completed: it is too late", "job_status": "completed"})
    with listening(late) as (url, _), Client(url) as client, pytest.raises(ClientError, match="too late") as raised:
        client.cancel(5)
    assert (raised.value.status, raised.value.problem["job_status"]) == (409, "completed")


def test_the_next_address_is_tried() -> None:
    with ExitStack() as stack:
        tired, _ = stack.enter_context(listening(AWAY))
        awake, asked = stack.enter_context(listening(response("200 OK", {"id": 5})))
        client = stack.enter_context(Client(f"http://127.0.0.1:1,{tired},{awake}", patience=0))
        assert client.job(5) == {"id": 5}
        assert asked[0].startswith(b"GET /jobs/5 HTTP/1.1\r\n")


def test_the_token_is_sent_in_its_header() -> None:
    with listening(response("200 OK", {})) as (url, asked), Client(url, token="secret") as client:
        client.get("/leader")
        assert b"\r\nAuthorization: Bearer secret\r\n" in asked[0]


@pytest.mark.parametrize(
    "reply", [response("200 OK", 1)[:-1] + b"<", b"SSH-2.0-x\r\n", response("500 Oops", "x"), None]
)
def test_a_server_that_is_no_scheduler_is_named_in_the_error(reply: bytes | None) -> None:
    with listening(*[reply] * 2) as (url, _), Client(url, patience=0) as client, pytest.raises(ClientError, match=url):
        client.get("/leader")


async def taskd(*arguments: str) -> tuple[int, str, str]:
    """Run the executable; return its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskd", *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_executable_submits_and_shows_jobs_and_the_cluster(postgres_dsn: str) -> None:
    async with api_on(postgres_dsn) as address:
        server = ("--server", f"http://{address}")
        code, out, err = await taskd("submit", '{"a": 1}', "--json", *server)
        assert (code, err) == (0, "")
        job_id = str(json.loads(out)["id"])
        code, out, _ = await taskd("status", job_id, *server)
        assert code == 0
        assert f"job {job_id} pending" in out
        code, out, _ = await taskd("status", "--json", *server)
        shown = json.loads(out)
        assert shown["metrics"]["pending_jobs"] == 1
        assert shown["health"]["status"] == "healthy"
        code, out, _ = await taskd("status", *server)
        assert code == 0
        assert "worker-1" in out
        assert "\x1b" not in out
        assert (await taskd("submit", "1", "--wait", "0.1", *server))[0] == 3
        code, out, err = await taskd("submit", "1", "--priority", "1000", *server)
        assert (code, out) == (2, "")
        assert "--priority" in err
        code, out, err = await taskd("submit", "1", "--timeout", "0", *server)
        assert (code, out) == (2, "")
        assert err.startswith("error: timeout: must be")
        code, out, err = await taskd("status", "424242", *server)
        assert (code, out, err) == (1, "", "error: there is no job 424242\n")


async def test_the_executable_cancels_jobs_and_names_those_it_could_not(postgres_dsn: str) -> None:
    async with api_on(postgres_dsn) as address:
        server = ("--server", f"http://{address}")
        ids = [json.loads((await taskd("submit", "1", "--json", *server))[1])["id"] for _ in range(2)]
        code, out, err = await taskd("cancel", str(ids[0]), "424242", *server)
        printed = f"job {ids[0]} cancelled\njob 424242 not cancelled: there is no job 424242\n"
        assert (code, out, err) == (1, printed, "")
        code, out, err = await taskd("cancel", *map(str, ids), "--json", *server)
        assert (code, err) == (0, "")
        assert json.loads(out) == [{"id": i, "cancelled": True, "status": "cancelled"} for i in ids]
        _, out, _ = await taskd("status", str(ids[0]), *server)
        assert f"job {ids[0]} cancelled" in out


async def test_ctrl_c_ends_a_wait_with_130_and_no_traceback(postgres_dsn: str) -> None:
    async with api_on(postgres_dsn) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskd", "submit", "1", "--wait", "--server", f"http://{address}"),
            stderr=asyncio.subprocess.PIPE,
            # Tests in the background may run with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        assert b"waiting for its end" in await process.stderr.readline()
        output = asyncio.ensure_future(process.stderr.read())
        # Python checks for signals before a system call. A signal between the check and the call is seen only after the call,
        # which waits here for a minute (27 of 6,000 signals met that moment). So the signal is sent again.
        async with asyncio.timeout(10):
            while not output.done():
                process.send_signal(signal.SIGINT)
                await asyncio.wait([output], timeout=2)
            assert await output == b"job 1 goes on: taskd status 1\n"
            assert await process.wait() == 130


async def test_a_schedule_that_is_there_already_says_how_to_change_it(postgres_dsn: str) -> None:
    async with api_on(postgres_dsn) as address:
        add = ("schedule", "add", "nightly", "--cron", "0 3 * * *", "--server", f"http://{address}")
        assert (await taskd(*add))[0] == 0
        code, out, err = await taskd(*add)
        assert (code, out, err) == (1, "", "error: there is a schedule 'nightly' already: --replace changes it\n")
        assert (await taskd(*add, "--replace"))[0] == 0


async def test_migrate_says_what_it_applied(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    assert await taskd("migrate", "--check", "--json") == (0, '{"pending": []}\n', "")
    assert await taskd("migrate") == (0, "the schema was up to date already\n", "")
    assert await taskd("migrate", "--audit", "--json") == (0, '{"applied": ["audit"]}\n', "")
    assert (await taskd("migrate", "--audit", "--check"))[0] == 2
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://127.0.0.1:1/none")
    code, out, err = await taskd("migrate")
    assert (code, out) == (1, "")
    assert err.startswith("error: PostgreSQL: ")
    assert err.count("\n") == 1
