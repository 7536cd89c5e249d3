"""Tests of app.testing: a bench runs a task as a worker does, and shows what middlewares see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context as Context_
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from taskd import App, ClientError, Context, Depends, Fail, JobCancelled, Snooze
from taskd.domain.errors import Unstorable

seen: list[tuple[str, Any]] = []
app = App()
plain = App()


@app.middleware
def outer(ctx: Context) -> Generator[None, Any, None]:
    seen.append(("outer", ctx.attempt))
    try:
        result = yield
    except BaseException as error:
        seen.append(("outer", repr(error)))
        raise
    seen.append(("outer", result))


@app.middleware
def inner(ctx: Context) -> Generator[None, Any, None]:
    if ctx.job.task == "guarded":
        raise Fail("not today")
    if ctx.job.task == "unyielding":
        return
    try:
        seen.append(("inner", (yield)))
    except ValueError as error:
        raise Fail(f"translated: {error}") from error
    except KeyError:
        seen.append(("inner", "swallowed"))
    if ctx.job.task == "twice":
        yield


@app.task
async def walk(ctx: Context, day: date, pages: int = 2) -> dict[str, str]:
    await ctx.progress(0.5, "half way")
    await ctx.checkpoint({"page": pages})
    await ctx.submit(guarded.options(priority=3))
    async with ctx.lock("a") as held:
        assert (held.name, held.fence) == ("a", 1)
        with pytest.raises(TimeoutError):
            async with ctx.lock("a"):
                raise AssertionError
    async with ctx.lock("a") as again:
        assert again.fence > held.fence
    return {"day": day.isoformat()}


@app.task
def step(ctx: Context) -> list[Any]:
    ctx.progress_sync(1)
    ctx.checkpoint_sync([1])
    ctx.submit_sync(guarded)
    with ctx.lock_sync("b"):
        return [ctx.attempt, ctx.checkpoint_value, ctx.cancelled.is_set()]


@app.task
def guarded() -> None:
    raise AssertionError


@app.task
def unyielding() -> None:
    raise AssertionError


@app.task
def twice() -> None:
    pass


@app.task
async def raises(kind: str) -> None:
    if kind == "value":
        raise ValueError("x")
    if kind == "key":
        raise KeyError("x")
    if kind == "cancel":
        raise asyncio.CancelledError
    raise Snooze(5, "later")


@plain.task
def nonsense() -> object:
    return float("nan")


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.clear()


async def test_a_task_runs_as_in_a_worker_and_its_reports_are_recorded() -> None:
    run = await app.testing().run(walk, date(2026, 5, 1), pages=3)
    assert (run.outcome, run.result) == ("completed", {"day": "2026-05-01"})
    assert (run.progress, run.checkpoint) == ([(0.5, "half way")], {"page": 3})
    assert run.children == [("guarded", {}, {"priority": 3})]
    assert seen == [("outer", 1), ("inner", {"day": "2026-05-01"}), ("outer", {"day": "2026-05-01"})]


def test_a_plain_task_gets_the_values_of_the_test() -> None:
    run = app.testing(attempt=3, checkpoint={"page": 1}, cancelled=True).run_sync(step)
    assert run.result == [3, {"page": 1}, True]
    assert (run.progress, run.checkpoint, len(run.children)) == ([(1, "")], [1], 1)


def test_middlewares_see_what_was_raised_and_change_it_only_by_raising() -> None:
    bench = app.testing()
    assert repr(bench.run_sync(raises, "value").error) == "Fail('translated: x')"
    assert seen[-1] == ("outer", "Fail('translated: x')")
    assert isinstance(bench.run_sync(raises, "key").error, KeyError)
    assert seen[-2:] == [("inner", "swallowed"), ("outer", "KeyError('x')")]
    snoozed = bench.run_sync(raises, "snooze")
    assert snoozed.outcome == "snoozed"
    with pytest.raises(Snooze, match="later"):
        _ = snoozed.result
    with pytest.raises(asyncio.CancelledError):
        bench.run_sync(raises, "cancel")
    assert seen[-1] == ("outer", "CancelledError()")


def test_a_middleware_that_raises_or_does_not_yield_once_fails_the_attempt() -> None:
    bench = app.testing()
    assert repr(bench.run_sync(guarded).error) == "Fail('not today')"
    assert seen[-1] == ("outer", "Fail('not today')")
    assert "inner did not yield, so the task was not run" in str(bench.run_sync(unyielding).error)
    assert "inner yielded a second time" in str(bench.run_sync(twice).error)
    with pytest.raises(TypeError, match="a middleware is a generator function"):
        app.middleware(guarded.function)  # type: ignore[type-var]  # that is the point


def test_a_result_without_a_json_value_fails_as_in_a_worker() -> None:
    assert isinstance(plain.testing().run_sync(nonsense).error, ValueError)
    with pytest.raises(TypeError, match="pages"):
        app.testing().run_sync(walk, date(2026, 5, 1), pages="x")


@plain.task
def doubled(n: int) -> int:
    return n * 2


@plain.task
async def asks(ctx: Context, how: str) -> list[Any]:
    child = await (doubled.submit(n=4) if how == "direct" else ctx.submit(doubled, n=4))
    many = await doubled.submit_many([{"n": 1}, {"n": 2}])
    cancelled = await child.cancel()
    return [
        await child.status(),
        cancelled,
        (await child.job())["payload"],
        len(many),
        doubled.handle_sync(child.id).status(),
    ]


@plain.task
async def waits(ctx: Context) -> int:
    return await (await ctx.submit(doubled, n=4)).result(timeout=60)


@plain.task
def waits_sync(ctx: Context) -> list[Any]:
    handles: list[Any] = []
    thread = threading.Thread(target=lambda: handles.append(ctx.submit_sync(doubled, n=5)))
    thread.start()
    thread.join()
    return [handles[0].result(), handles[0].cancel()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """Requests that reach the scheduler that TASKD_SERVER names. There must be none."""
    requests: list[str] = []

    class Real(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(self.requestline)
            self.send_error(500)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Real) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("TASKD_SERVER", f"http://127.0.0.1:{server.server_port}")
        yield requests
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("how", ["context", "direct"])
async def test_handles_of_a_bench_never_reach_a_scheduler(how: str, asked: list[str]) -> None:
    run = await plain.testing().run(asks, how)
    assert run.result == ["cancelled", True, {"n": 4}, 2, "cancelled"]
    assert [child.payload for child in run.children] == [{"n": 4}, {"n": 1}, {"n": 2}]
    assert asked == []


async def test_a_handle_that_outlives_its_run_still_answers_from_the_bench(asked: list[str]) -> None:
    kept: list[Any] = []
    inner = App()

    @inner.task
    async def keeps(ctx: Context) -> None:
        kept.append(await ctx.submit(doubled, n=1))

    await inner.testing().run(keeps)
    assert await kept[0].cancel()
    assert await kept[0].status() == "cancelled"
    with pytest.raises(JobCancelled):
        await kept[0].result()
    assert asked == []


def test_a_wait_for_a_child_without_a_result_fails_at_once_and_says_how_to_give_one() -> None:
    error = plain.testing().run_sync(waits).error
    assert isinstance(error, TimeoutError)
    assert "app.testing(results=" in str(error)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [(8, 8), (lambda n: n * 3, 12), (ValueError("no"), "JobFailed"), ("x", "TypeError")],
)
def test_a_test_sets_the_ends_of_child_jobs(result: Any, outcome: Any) -> None:
    run = plain.testing(results={doubled: result}).run_sync(waits)
    assert (run.value if run.error is None else type(run.error).__name__) == outcome


def test_children_that_threads_of_a_task_submit_are_recorded_too(asked: list[str]) -> None:
    run = plain.testing(results={"doubled": lambda n: n * 2}).run_sync(waits_sync)
    assert (run.result, len(run.children), asked) == ([10, False], 1, [])


def _in_a_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def _in_a_pool(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("elsewhere", [_in_a_thread, _in_a_pool, lambda call: Context_().run(call)])
def test_code_without_a_context_of_its_own_reaches_no_scheduler(elsewhere: Any, asked: list[str]) -> None:
    inner = App()

    @inner.task
    def spreads() -> list[Any]:
        child = elsewhere(lambda: doubled.submit_sync(n=5))
        return [elsewhere(child.cancel), elsewhere(lambda: doubled.handle_sync(child.id).status())]

    run = inner.testing().run_sync(spreads)
    assert (run.result, len(run.children), asked) == ([True, "cancelled"], 1, [])


async def test_work_of_an_event_loop_in_other_threads_reaches_no_scheduler(asked: list[str]) -> None:
    inner = App()

    @inner.task
    async def spreads() -> int:
        loop = asyncio.get_running_loop()
        child = await loop.run_in_executor(None, lambda: doubled.submit_sync(n=5))
        alone = loop.create_task(doubled.submit(n=6), context=Context_())
        return len({child.id, (await alone).id})

    run = await inner.testing().run(spreads)
    assert (run.result, len(run.children), asked) == (2, 2, [])


@pytest.mark.parametrize("per", ["executor", "attempt"])
def test_providers_that_a_bench_opens_reach_no_scheduler(per: Any, asked: list[str]) -> None:
    inner = App()

    @inner.provide(per=per)
    def number() -> int:
        return doubled.submit_sync(n=5).id

    @inner.task
    def needs(number: int = Depends()) -> int:
        return number

    run = inner.testing().run_sync(needs)
    assert run.error is None
    assert (len(run.children), asked) == (1, [])


def test_after_a_run_jobs_go_to_the_scheduler_again(asked: list[str]) -> None:
    plain.testing().run_sync(waits)
    with pytest.raises(ClientError):
        doubled.submit_sync(n=1)
    assert asked


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_result_that_no_worker_stores_is_refused(text: str) -> None:
    inner = App()

    @inner.task
    def says() -> list[str]:
        return [text]

    assert isinstance(inner.testing().run_sync(says).error, Unstorable)


def test_one_dedupe_key_is_one_child() -> None:
    inner = App()

    @inner.task
    async def twice_over(ctx: Context) -> bool:
        keyed = doubled.options(dedupe_key="k")
        return (await ctx.submit(keyed, n=1)).id == (await ctx.submit(keyed, n=1)).id

    run = inner.testing().run_sync(twice_over)
    assert (run.result, len(run.children)) == (True, 1)


def test_a_job_that_the_bench_does_not_know_is_unknown(asked: list[str]) -> None:
    inner = App()

    @inner.task
    def strange() -> None:
        doubled.handle_sync(77).status()

    error = inner.testing().run_sync(strange).error
    assert isinstance(error, ClientError)
    assert (error.status, asked) == (404, [])


def test_results_take_only_tasks_as_keys() -> None:
    with pytest.raises(TypeError, match="has tasks or their names as keys, not 5"):
        plain.testing(results={5: 1})
