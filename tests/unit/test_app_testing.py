"""Tasks inside a test: what a bench does as a worker does, and what middlewares see."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import date
from typing import Any

import pytest

from taskd import App, Context, Fail, Snooze

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


async def test_a_task_runs_as_in_a_worker_and_what_it_says_is_written_down() -> None:
    run = await app.testing().run(walk, date(2026, 5, 1), pages=3)
    assert (run.outcome, run.result) == ("completed", {"day": "2026-05-01"})
    assert (run.progress, run.checkpoint) == ([(0.5, "half way")], {"page": 3})
    assert run.children == [("guarded", {}, {"priority": 3})]
    assert seen == [("outer", 1), ("inner", {"day": "2026-05-01"}), ("outer", {"day": "2026-05-01"})]


def test_a_plain_task_is_told_what_the_test_says() -> None:
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


def test_what_is_no_json_fails_as_in_a_worker() -> None:
    assert isinstance(plain.testing().run_sync(nonsense).error, ValueError)
    with pytest.raises(TypeError, match="pages"):
        app.testing().run_sync(walk, date(2026, 5, 1), pages="x")
