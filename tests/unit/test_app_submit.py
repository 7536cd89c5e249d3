"""Tests of submits from an App: the task's definition, the options on top, the key, and the address."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from subprocess import run
from typing import Any, cast

import pytest

from taskd import App, Context, InvalidJob, JobCancelled, JobFailed, SyncHandle
from taskd.app.client_pool import ClientPool
from taskd.app.submitter import Submitter
from tests.fake_server import JOB, idempotency_key, listening, response, silent

app = App(server="http://127.0.0.1:1")


@app.task(queue="images", priority=7, max_retries=5, timeout=30)
async def resize(ctx: Context, url: str, width: int = 100) -> dict[str, int]:
    return {"width": width}


@app.task
def report(month: str) -> str:
    return month


@pytest.fixture
def make_app() -> Iterator[Callable[..., App]]:
    """Maker of apps whose connections are closed at the end."""
    apps: list[App] = []

    def make(**where: str) -> App:
        apps.append(app := App(**where))
        return app

    yield make
    for app in apps:
        app.close()


def sent(submitter: Submitter[..., Any], **kwargs: Any) -> dict[str, Any]:
    """Return the job that is sent."""
    body = submitter._request((), kwargs).body
    assert body is not None
    job: dict[str, Any] = json.loads(body)
    return job


def test_the_definition_of_the_task_goes_with_each_job() -> None:
    definition = {"task": "resize", "queue": "images", "priority": 7, "max_retries": 5, "timeout": 30}
    assert sent(resize, url="u") == {"payload": {"url": "u"}, **definition}
    assert sent(report, month="m") == {"payload": {"month": "m"}, "task": "report"}


def test_options_come_before_the_definition_and_may_be_given_in_steps() -> None:
    urgent = resize.options(priority=99, queue=None)
    assert (sent(urgent, url="u")["priority"], sent(urgent, url="u")["queue"]) == (99, "images")
    later = urgent.options(delay=1.5)
    assert (sent(later, url="u")["priority"], sent(later, url="u")["delay"]) == (99, 1.5)
    assert "delay" not in sent(urgent, url="u")
    assert sent(resize, url="u")["priority"] == 7


def test_every_option_is_a_field_of_the_job() -> None:
    every = report.options(
        queue="q",
        priority=0,
        schedule_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        dedupe_key="k",
        max_retries=0,
        retry_backoff={"initial": 1, "jitter": False},
        timeout=5,
        metadata={"who": "me", "n": None},
    )
    assert sent(every, month="m") == {
        "payload": {"month": "m"},
        "task": "report",
        "queue": "q",
        "priority": 0,
        "schedule_at": "2026-01-31T12:00:00+00:00",
        "dedupe_key": "k",
        "max_retries": 0,
        "retry_backoff": {"initial": 1, "jitter": False},
        "timeout": 5,
        "metadata": {"who": "me", "n": None},
    }


def test_unknown_options_are_refused() -> None:
    unknown: Any = {"prio": 5}
    with pytest.raises(TypeError, match="prio"):
        report.options(**unknown)


ODD: Any = object()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 300}, "priority: must be a whole number from 0 to 100, not 300"),
        ({"priority": True}, "priority: must be a whole number"),
        ({"delay": float("nan")}, "delay: must be a number from 0 to 315360000, not nan"),
        ({"delay": float("inf")}, "delay: must be a number from 0 to 315360000"),
        ({"delay": -1}, "delay: must be a number from 0 to 315360000, not -1"),
        ({"timeout": 0}, "timeout: must be a number above 0"),
        ({"timeout": float("nan")}, "timeout: must be a number above 0"),
        ({"dedupe_key": "\ud800"}, "dedupe_key: must not contain lone surrogates"),
        ({"dedupe_key": "a\0"}, "dedupe_key: must not contain the NUL character"),
        ({"dedupe_key": ""}, "dedupe_key: must be a text of 1 to 255 characters"),
        ({"dedupe_key": "idempotency-key:x"}, "dedupe_key: must not begin with idempotency-key:"),
        ({"queue": "two words"}, "queue: must be 1 to 255 letters"),
        ({"schedule_at": datetime(2026, 1, 31)}, "schedule_at: must be a datetime with a time zone"),
        ({"schedule_at": datetime(9999, 6, 1, tzinfo=UTC)}, "schedule_at: must be between"),
        ({"schedule_at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 1}, "delay: cannot be given together"),
        ({"max_retries": 101}, "max_retries: must be a whole number from 0 to 100"),
        ({"retry_backoff": {"factor": 0}}, "retry_backoff.factor: must be a number from 1 to 1000"),
        ({"retry_backoff": {"speed": 1}}, "retry_backoff"),
        ({"metadata": {"a": ODD}}, "metadata: must be an object of at most 64"),
        ({"metadata": {"a": "\ud800"}}, "metadata: must not contain lone surrogates"),
        ({"metadata": {"a": [1]}}, "metadata: must be an object of at most 64"),
        ({"metadata": {"a": float("nan")}}, "metadata: must be a finite number"),
        ({"metadata": {str(n): 1 for n in range(65)}}, "metadata: must be an object of at most 64"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_option_that_cannot_be_is_refused_where_it_is_given(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=f"^{re.escape(words)}"):
        report.options(**options)


def test_a_time_replaces_the_other_kind_of_time() -> None:
    later = report.options(delay=5).options(schedule_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert "delay" not in sent(later, month="m")
    assert "schedule_at" not in sent(later.options(delay=1), month="m")


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(make_app: Callable[..., App]) -> None:
    with listening(None, JOB, None, JOB) as (url, asked):
        there = make_app(server=url)
        task = there.task(report.function)
        assert (await task.submit(month="m")).id == 1
        assert (await asyncio.to_thread(task.submit_sync, month="m")).id == 1
        await there.aclose()
        there.close()
    keys = list(map(idempotency_key, asked))
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_many_jobs_are_one_request_with_a_key(make_app: Callable[..., App]) -> None:
    with listening(None, response("201 Created", {"ids": [3, 4]})) as (url, asked):
        task = make_app(server=url).task(report.function)
        assert [handle.id for handle in task.options(priority=3).submit_many_sync({"month": m} for m in "ab")] == [3, 4]
    assert idempotency_key(asked[0]) == idempotency_key(asked[1])
    jobs = json.loads(asked[1].partition(b"\r\n\r\n")[2])["jobs"]
    assert jobs == [{"payload": {"month": m}, "task": "report", "priority": 3} for m in "ab"]


async def test_no_jobs_are_no_request() -> None:
    assert await report.submit_many([]) == []
    assert report.submit_many_sync([]) == []


def test_one_bad_job_of_many_is_named_and_one_key_for_many_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^jobs\[1\]: .*'moon'; it takes month"):
        report.submit_many_sync([{"month": "m"}, {"moon": "m"}])
    with pytest.raises(ValueError, match="dedupe_key"):
        report.options(dedupe_key="k").submit_many_sync([{"month": "m"}])


def test_the_address_and_the_token_are_read_at_the_first_use(
    monkeypatch: pytest.MonkeyPatch, make_app: Callable[..., App]
) -> None:
    late = make_app().task(report.function)
    with listening(JOB) as (url, asked):
        monkeypatch.setenv("TASKD_SERVER", f"http://127.0.0.1:1,{url}")
        monkeypatch.setenv("TASKD_TOKEN", "secret")
        late.submit_sync(month="m")
    assert b"\r\nAuthorization: Bearer secret\r\n" in asked[0]


def test_what_the_app_was_given_comes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, make_app: Callable[..., App]
) -> None:
    monkeypatch.setenv("TASKD_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("TASKD_TOKEN", "wrong")
    with listening(JOB) as (url, asked):
        make_app(server=url, token="right").task(report.function).submit_sync(month="m")
    assert b"Bearer right" in asked[0]


def test_each_event_loop_has_connections_of_its_own(make_app: Callable[..., App]) -> None:
    with listening(JOB, JOB) as (url, asked):
        there = make_app(server=url)
        task = there.task(report.function)

        async def once() -> None:
            await task.submit(month="m")
            await there.aclose()

        asyncio.run(once())
        asyncio.run(once())
    assert len(asked) == 2


def test_threads_share_a_client_and_each_has_its_own_answer(make_app: Callable[..., App]) -> None:
    replies = [response("201 Created", {"id": n}) for n in range(8)]
    with listening(*replies) as (url, asked):
        task = make_app(server=url).task(report.function)
        handles: list[SyncHandle[str]] = []
        threads = [threading.Thread(target=lambda: handles.append(task.submit_sync(month="m"))) for _ in replies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert sorted(handle.id for handle in handles) == list(range(8))
    assert len(set(map(idempotency_key, asked))) == 8


@pytest.mark.parametrize(
    ("status", "error", "kind", "message"),
    [
        ("failed", "Traceback ...\nValueError: no\n", JobFailed, "job 1 failed after 1 attempt: ValueError: no"),
        ("cancelled", None, JobCancelled, "job 1 was cancelled after 1 attempt"),
    ],
)
def test_a_job_without_a_result_says_why(
    status: str, error: str | None, kind: Any, message: str, make_app: Callable[..., App]
) -> None:
    job = {"id": 1, "status": status, "attempts": [{"attempt": 1}]} | ({"error": error} if error else {})
    with listening(JOB, response("200 OK", job)) as (url, _):
        handle = make_app(server=url).task(report.function).submit_sync(month="m")
        with pytest.raises(kind) as raised:
            handle.result()
    assert (str(raised.value), raised.value.error, raised.value.attempts) == (message, error, [{"attempt": 1}])
    assert str(pickle.loads(pickle.dumps(raised.value))) == message


async def test_a_result_that_does_not_come_in_time_is_a_timeout(make_app: Callable[..., App]) -> None:
    with silent() as url:
        there = make_app(server=url)
        task = there.task(report.function)
        with pytest.raises(TimeoutError, match="no answer in the time given"):
            task.handle_sync(5).result(timeout=0.1)
        with pytest.raises(TimeoutError, match="no answer in the time given"):
            await task.handle(5).result(timeout=0.1)
        await there.aclose()


async def test_event_loops_of_other_threads_may_come_and_go_at_any_moment() -> None:
    clients = ClientPool("http://127.0.0.1:1", None)

    class Ended:
        def is_closed(self) -> bool:
            clients._asynchronous.clear()  # as another thread does that cleans up at the same time
            return True

    ended: list[Any] = [Ended(), Ended()]
    clients._asynchronous.update({(1, loop): cast(Any, None) for loop in ended})
    client = clients.asynchronous
    assert clients.asynchronous is client
    await clients.aclose()


@pytest.mark.parametrize(
    "code",
    [
        "import taskd; taskd.App().task(name='x')(lambda: None); taskd.Handle",
        "import taskd.cli.status; from taskd.client import Client; Client().close()",
        "import taskd.executor.main, tests.e2e.tasks",
    ],
)
def test_programs_that_do_not_submit_asynchronously_do_not_load_httpx(code: str) -> None:
    command = [sys.executable, "-c", f"{code}; import sys; print('httpx' in sys.modules)"]
    assert run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_instant_whose_offset_has_seconds_is_sent_in_utc() -> None:
    when = datetime(2026, 1, 1, 1, 0, 0, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    with listening(JOB) as (url, asked):
        inner = App(server=url)
        inner.task(name="it")(lambda: None).options(schedule_at=when).submit_sync()
        inner.close()
    assert b'"2026-01-01T00:06:32+00:00"' in asked[0]
