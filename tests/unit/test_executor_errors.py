"""Test the errors of tasks as their authors see them: their own frames, clean text, of limited size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import taskd
from taskd import App
from taskd.executor.results import ResultEncoder
from taskd.executor.tracebacks import describe
from taskd.worker.pool.protocol import EndKind
from tests.unit.claims import order


def caught(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - any will do
        call()
    return raised.value


def compiled(code: str, package: Any) -> Callable[..., Any]:
    """Return a function `it` whose file seems to lie in the package's folder."""
    scope: dict[str, Any] = {}
    exec(compile(code, package.__file__.replace("__init__", "elsewhere"), "exec"), scope)
    function: Callable[..., Any] = scope["it"]
    return function


def test_frames_of_taskd_and_msgspec_are_dropped_at_the_head_and_between() -> None:
    app = App()

    @app.task
    def inner() -> None:
        raise ValueError("boom")

    def user() -> None:
        through = compiled("def it(call): call()", msgspec)
        through(inner)

    text = describe(caught(lambda: compiled("def it(call): call()", taskd)(user)))
    assert "taskd/app" not in text
    assert "elsewhere" not in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("  File")][-2:] == ["user", "inner"]
    assert text.endswith("ValueError: boom")


def test_an_exception_without_frames_of_the_user_is_one_line() -> None:
    error = caught(compiled("def it(): raise ValueError('boom')", taskd))
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without this file's frame
    assert error.__traceback__ is not None
    assert describe(error) == "ValueError: boom"


def test_the_causes_of_an_exception_are_shown_without_our_frames_too() -> None:
    def user() -> None:
        try:
            compiled("def it(): raise KeyError('first')", taskd)()
        except KeyError as error:
            raise ValueError("second") from error

    text = describe(caught(user))
    assert "KeyError: 'first'" in text
    assert "elsewhere" not in text


def test_the_parts_of_a_group_are_shown_without_our_frames() -> None:
    parts = [caught(compiled("def it(): raise KeyError('part')", taskd))]
    text = describe(BaseExceptionGroup("many", parts))
    assert "KeyError: 'part'" in text
    assert "elsewhere" not in text


def test_an_exception_whose_text_cannot_be_made_is_shown_by_its_type() -> None:
    class Textless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "Textless" in describe(Textless())


@pytest.mark.parametrize("limit", [100, 101, 1000])
@pytest.mark.parametrize("text", ["é" * 10_000, "a\x00" * 10_000, "\ud800" * 10_000, "head " + "x" * 5_000 + " tail"])
def test_a_long_error_keeps_its_head_and_its_tail_within_the_limit(text: str, limit: int) -> None:
    end = ResultEncoder(1000, limit).failed(order(), text)
    assert end.kind is EndKind.FAILED
    assert len(end.data) <= limit
    shown = end.data.decode()
    assert "characters left out" in shown
    assert "\x00" not in shown
    if text.endswith("tail"):
        assert shown.startswith("head ")
        assert shown.endswith(" tail")


def test_an_error_of_exactly_the_limit_is_whole() -> None:
    assert ResultEncoder(1000, 100).failed(order(), "x" * 100).data == b"x" * 100
    assert len(ResultEncoder(1000, 100).failed(order(), "x" * 101).data) <= 100
