"""Tests of definitions of tasks: mistakes show when the worker starts."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from taskd import App
from taskd.app import Context


def nothing() -> None:
    pass


async def asynchronous(x: int) -> int:
    return x


class Doubler:
    async def __call__(self, x: int) -> int:
        return 2 * x

    def method(self, x: int) -> int:
        return 2 * x


def yields() -> Iterator[int]:
    yield 1


async def yields_later() -> AsyncIterator[int]:
    yield 1


def positional(x: int, /) -> int:
    return x


def values_only(*values: int) -> None:
    pass


def context_and_values(ctx: Context, *values: int) -> None:
    pass


def test_calling_a_task_just_calls_the_function() -> None:
    app = App()

    @app.task
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert add(1) == 3
    assert add(1, b=1) == 2
    unchecked: Callable[..., Any] = add
    assert unchecked("a", "b") == "ab"
    assert (unchecked.__name__, add.__doc__, add.name) == ("add", "Adds.", "add")


async def test_calling_an_async_task_gives_its_coroutine() -> None:
    assert await App().task(asynchronous)(5) == 5


def test_names_are_the_functions_or_given_and_taken_only_once() -> None:
    app = App()
    app.task(nothing)
    app.task(name="other")(nothing)
    assert sorted(app.names) == ["nothing", "other"]
    with pytest.raises(ValueError, match="'nothing' already"):
        app.task(nothing)


def test_the_timeouts_are_those_that_were_defined() -> None:
    app = App()
    app.task(nothing)
    app.task(name="quick", timeout=30)(nothing)
    app.task(name="quicker", timeout=0.5)(nothing)
    assert app.timeouts == {"quick": 30.0, "quicker": 0.5}


@pytest.mark.parametrize("function", [asynchronous, Doubler(), functools.partial(asynchronous, x=1)])
def test_async_callables_of_all_kinds_are_recognized(function: Callable[..., Any]) -> None:
    assert App().task(name="it")(function).asynchronous


@pytest.mark.parametrize("function", [nothing, Doubler().method, functools.partial(nothing)])
def test_plain_callables_run_in_threads(function: Callable[..., Any]) -> None:
    assert not App().task(name="it")(function).asynchronous


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", ""),
        ("name", 5),
        ("name", "x" * 256),
        ("name", "a\x00"),
        ("name", "a\ud800"),
        ("queue", ""),
        ("priority", 101),
        ("priority", -1),
        ("priority", True),
        ("priority", "1"),
        ("max_retries", -1),
        ("max_retries", 2.0),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "5"),
        ("timeout", True),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=option):
        App().task(**options)(nothing)


def test_an_unknown_option_is_refused() -> None:
    options: dict[str, Any] = {"retries": 3}
    with pytest.raises(TypeError, match="retries"):
        App().task(**options)(nothing)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (positional, "'x' is positional-only"),
        (values_only, r"\*args alone"),
        (context_and_values, r"\*args alone"),
        (yields, "generator"),
        (yields_later, "generator"),
        (int, "no function"),
        (5, "no function"),
    ],
)
def test_a_function_that_no_payload_fits_is_refused(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        App().task(name="it")(function)


def test_a_callable_without_a_name_needs_one() -> None:
    with pytest.raises(TypeError, match="name="):
        App().task(functools.partial(nothing))


def größe() -> None:  # noqa: PLC2401 - that is the point
    pass


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (größe, {}),
        (lambda: None, {}),
        (nothing, {"name": "send mail"}),
        (nothing, {"name": ""}),
        (nothing, {"name": 5}),
    ],
)
def test_a_name_that_no_submit_could_use_is_refused_with_what_to_do(function: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a task's name must be 1 to 255 letters.*@app\.task\(name=\.\.\.\)"):
        App().task(**options)(function)
