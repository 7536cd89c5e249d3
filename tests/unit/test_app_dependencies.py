"""Tests of dependencies: the provider of each parameter, when it is opened and closed, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from taskd import App, Context, Depends, Fail
from taskd.executor import loading

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"
events: list[str] = []
app = App()


class Pool:
    def __init__(self, name: str = "pool") -> None:
        self.name = name


class Session:
    def __init__(self, pool: Pool, attempt: int) -> None:
        self.label = f"{pool.name} {attempt}"


class Files: ...


@app.provide
async def open_pool(name: str = Depends("name_of_pool")) -> AsyncIterator[Pool]:
    events.append("pool opened")
    async with asyncio.timeout(60):  # must be left in the asyncio task that has entered it
        yield Pool(name)
    events.append("pool closed")


@app.provide
def name_of_pool() -> str:
    return "main"


@app.provide(per="attempt")
def session(ctx: Context, pool: Pool = Depends()) -> Iterator[Session]:
    events.append("session opened")
    try:
        yield Session(pool, ctx.attempt)
    except ValueError as error:
        events.append(f"session rolled back: {error}")
        if str(error) == "swallow":
            return
        raise
    events.append("session closed")


@app.provide(name="attached", per="attempt")
@contextlib.asynccontextmanager
async def attached_session(session: Session = Depends()) -> AsyncIterator[str]:
    yield f"attached {session.label}"


@app.provide
async def files() -> Files:
    return Files()


@app.middleware
def middleware(ctx: Context) -> Generator[None, Any, None]:
    events.append("middleware")
    yield
    events.append("middleware over")


@app.task
async def walk(
    ctx: Context,
    steps: int,
    *,
    pool: Pool = Depends(open_pool),
    attached: str = Depends("attached"),
    session: Session = Depends(),
) -> list[Any]:
    return [ctx.attempt, steps, pool.name, attached, session.label]


@app.task
def plain(wrong: str = "", session: Annotated[Session, "any"] = Depends(), files: Files = Depends()) -> str:
    assert threading.current_thread() is not threading.main_thread()
    assert isinstance(files, Files)
    if wrong:
        raise ValueError(wrong)
    return session.label


@pytest.fixture(autouse=True)
def forget() -> None:
    events.clear()


def test_a_task_gets_dependencies_by_type_name_and_provider() -> None:
    run = app.testing(attempt=3).run_sync(walk, 7)
    assert run.result == [3, 7, "main", "attached main 3", "main 3"]
    expected = ["pool opened", "middleware", "session opened", "session closed", "middleware over", "pool closed"]
    assert events == expected
    assert app.testing().run_sync(plain).result == "main 1"


def test_a_dependency_of_an_executor_is_shared_by_its_attempts_and_closed_at_its_end() -> None:
    async def live() -> list[Any]:
        await asyncio.create_task(app.start())
        bench = app.testing()
        results = [(await bench.run(walk, n)).result for n in range(2)]
        await asyncio.create_task(app.stop())
        return results

    results = asyncio.run(live())
    assert [result[1] for result in results] == [0, 1]
    assert (events[0], events.count("pool opened"), events.count("session opened"), events[-1]) == (
        "pool opened",
        1,
        2,
        "pool closed",
    )


def test_a_dependency_of_an_attempt_sees_its_end_and_cannot_suppress_its_error() -> None:
    run = app.testing().run_sync(plain, "broken")
    assert (repr(run.error), events[-2:]) == ("ValueError('broken')", ["session rolled back: broken", "pool closed"])
    assert repr(app.testing().run_sync(plain, "swallow").error) == "ValueError('swallow')"


def test_a_test_replaces_dependencies() -> None:
    bench = app.testing(provide={Pool: Pool("fake"), "files": Files()})
    assert bench.run_sync(plain).result == "fake 1"
    given = {session: Session(Pool("x"), 9), open_pool: Pool("fake")}
    assert app.testing(provide=given).run_sync(walk, 1).result[2:] == ["fake", "attached x 9", "x 9"]
    assert "pool opened" not in events
    with pytest.raises(TypeError, match=r"app.testing\(provide=...\) asks for Context, which nothing provides"):
        app.testing(provide={Context: 1})


def test_a_submit_does_not_pass_a_dependency() -> None:
    assert walk.template(5) == b'{"payload":{"steps":5},"task": "walk"}'
    with pytest.raises(TypeError, match="'pool' is a dependency: the worker fills it"):
        walk.template(5, pool=Pool())
    with pytest.raises(Fail, match="argument session: is not taken"):
        plain.arguments.bind(b'{"session": 1}', Context)  # type: ignore[arg-type]  # not called


def test_a_direct_call_takes_what_it_is_given_and_says_what_is_missing() -> None:
    given = walk(Context(None, None), 1, pool=Pool(), attached="", session=Session(Pool(), 1))  # type: ignore[arg-type]  # no use
    given.close()
    with pytest.raises(
        AttributeError, match=r"taskd.Depends\(open_pool\) has no 'name': a worker and app.testing\(\) fill"
    ):
        _ = Depends(open_pool).name


def _missing_type(app: App) -> None:
    @app.task
    def task(pool: Pool = Depends()) -> None: ...


def _missing_name(app: App) -> None:
    app.provide(name="b")(lambda: 1)

    @app.task
    def task(pool: Pool = Depends("a")) -> None: ...


def _no_provider(app: App) -> None:
    @app.task
    def task(pool: Pool = Depends(open_pool)) -> None: ...


def _two(app: App) -> None:
    app.provide(Pool)
    app.provide(name="replica", type=Pool)(Pool)

    @app.task
    def task(pool: Pool = Depends()) -> None: ...


def _circle(app: App) -> None:
    app.provide(name="a")(lambda x=Depends("b"): x)
    app.provide(name="b")(lambda x=Depends("c"): x)
    app.provide(name="c")(lambda x=Depends("b"): x)

    @app.task
    def task(pool: Any = Depends("a")) -> None: ...


def _shorter(app: App) -> None:
    app.provide(name="session", per="attempt")(lambda: 1)
    app.provide(name="pool")(lambda x=Depends("session"): x)

    @app.task
    def task(pool: Any = Depends("pool")) -> None: ...


def _async_in_a_thread(app: App) -> None:
    @app.provide(per="attempt")
    async def session() -> int:
        return 1

    @app.task
    def task(number: int = Depends(session)) -> None: ...


class Maker:
    async def __call__(self) -> int:
        return 1


def _async_object_in_a_thread(app: App) -> None:
    app.provide(name="session", per="attempt")(Maker())

    @app.task
    def task(number: int = Depends("session")) -> None: ...


def _no_annotation(app: App) -> None:
    @app.task
    def task(pool=Depends()) -> None: ...  # type: ignore[no-untyped-def]  # that is the point


def _unknown_annotation(app: App) -> None:
    @app.task
    def task(pool: Unknown = Depends()) -> None: ...  # type: ignore[name-defined]  # noqa: F821  that is the point


REFUSED: dict[Callable[[App], None], str] = {
    _missing_type: "the task 'task', parameter 'pool', asks for Pool, which nothing provides: write @app.provide above",
    _missing_name: "asks for a, and no provider has that name; there are: b",
    _no_provider: "asks for open_pool, which is no provider of this app: write @app.provide above it",
    _two: r"asks for Pool, which Pool, replica provide: say which, as in Depends\('Pool'\)",
    _circle: r"in a circle \(b -> c -> b\): one of them must do without",
    _shorter: "'pool' is opened once an executor and asks for 'session', which is opened for each attempt: write",
    _async_in_a_thread: "'task' is a plain function, which runs in a thread, and 'session' is opened for each",
    _async_object_in_a_thread: "'task' is a plain function, which runs in a thread, and 'session' is opened for each",
    _no_annotation: "does not say what it asks for: annotate 'pool'",
    _unknown_annotation: "cannot be read .name 'Unknown' is not defined.: annotate 'pool'",
}


@pytest.mark.parametrize("define", REFUSED, ids=lambda define: define.__name__)
def test_a_dependency_without_a_provider_is_refused_at_the_start(define: Callable[[App], None]) -> None:
    other = App()
    define(other)
    began: list[int] = []
    other.on_start(lambda: began.append(1))
    with pytest.raises(loading.NotLoadable, match=REFUSED[define]) as raised:
        asyncio.run(loading.start("shop", other))
    assert ".py:" not in str(raised.value)
    assert not began


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(# shop\.py\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "shop.py").write_text(program)
    code = "from shop import app, sell; print(app.testing().run_sync(sell, 'tea').result)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("tea: open\n", "")


def bare() -> Iterator:  # type: ignore[type-arg]  # that is the point
    yield Pool()


async def older() -> typing.AsyncIterator:  # type: ignore[type-arg]
    yield Pool()


def test_an_invalid_provider_is_refused_where_it_is_defined() -> None:
    with pytest.raises(TypeError, match="nothing fills its parameter 'url'; mark what it depends on"):
        App().provide(lambda url: url)
    with pytest.raises(TypeError, match="nothing fills its parameter 'ctx'"):
        App().provide(session)
    with pytest.raises(TypeError, match="a provider is a function, not 5"):
        App().provide(5)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(ValueError, match="per is 'executor' or 'attempt', not 'request'"):
        App().provide(per="request")(Pool)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match=r"provider 'bare': -> Iterator does not say of what: .* -> Iterator\[Pool\]"):
        App().provide(bare)
    with pytest.raises(TypeError, match="-> AsyncIterator does not say of what"):
        App().provide(older)
    App().provide(type=Pool)(bare)
    with pytest.raises(ValueError, match="there is a provider named 'files' already"):
        app.provide(files)


def test_a_provider_that_fails_is_named_and_what_was_opened_before_is_closed() -> None:
    other = App()

    @other.provide
    async def pool() -> AsyncIterator[Pool]:
        yield Pool()
        events.append("closed")

    @other.provide
    def broken(pool: Pool = Depends()) -> Files:
        raise ConnectionRefusedError("connection refused")

    @other.provide(per="attempt")
    def unclosable() -> Iterator[int]:
        yield 1
        raise OSError("cannot")

    @other.provide(per="attempt")
    def failing() -> Iterator[str]:
        if events != ["never"]:
            raise Fail("there is no such customer")
        yield ""

    @other.task
    def first(files: Files = Depends()) -> None: ...

    @other.task
    def second(value: int = Depends()) -> None: ...

    @other.task
    def third(value: str = Depends()) -> None: ...

    message = r"^app 'shop' does not start: RuntimeError: the dependency 'broken' could not be opened: ConnectionRefusedError: "
    with pytest.raises(
        loading.NotLoadable, match=message + r"connection refused \(.*/test_app_dependencies\.py:\d+\)$"
    ):
        asyncio.run(loading.start("shop", other))
    assert events == ["closed"]
    assert "'unclosable' could not be closed: OSError: cannot" in str(other.testing().run_sync(second).error)
    assert repr(other.testing().run_sync(third).error) == "Fail('there is no such customer')"
