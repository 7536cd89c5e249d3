"""Tests of refusals: what an author writes that cannot work is refused where it is written, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from taskd import App
from taskd.api.decoding import decode
from taskd.api.plans import SchedulePlan
from taskd.api.problems import Problem


def _refusal(declare: Callable[[App], object]) -> str:
    with pytest.raises((TypeError, ValueError)) as raised:
        declare(App())
    return str(raised.value)


def test_a_queue_that_no_scheduler_takes() -> None:
    refusal = _refusal(lambda app: app.task(queue="a b")(_nothing))
    assert refusal == "task '_nothing': queue must be 1 to 255 letters, digits or any of _ . : / -, not 'a b'"


def test_hooks_and_middlewares_that_cannot_be_called() -> None:
    def needs(pool: object) -> None: ...

    def layer() -> Any:
        yield

    def optional(pool: object = None) -> None: ...

    app = App()
    app.on_start(optional)
    assert _refusal(lambda app: app.on_start(needs)).startswith("a function for on_start takes no arguments: ")  # type: ignore[type-var]  # the test is about this
    assert _refusal(lambda app: app.on_stop(needs)).startswith("a function for on_stop takes no arguments: ")  # type: ignore[type-var]  # the test is about this
    assert _refusal(lambda app: app.middleware(layer)).startswith("a middleware takes one argument, the Context: ")  # type: ignore[type-var]  # the test is about this


@pytest.mark.parametrize(
    ("policies", "refusal"),
    [
        ({"overlap": "no"}, "schedule '_nothing': overlap is one of allow, skip, queue, not 'no'"),
        ({"missed": "none"}, "schedule '_nothing': missed is one of skip, once, all, not 'none'"),
        ({"catch_up": 3}, "schedule '_nothing': catch_up goes with missed='all': give both, or neither"),
        ({"catch_up": 3, "missed": "once"}, "schedule '_nothing': catch_up goes with missed='all'"),
        ({"catch_up": 0}, "schedule '_nothing': catch_up is a whole number from 1 to "),
    ],
)
def test_unknown_policies(policies: dict[str, Any], refusal: str) -> None:
    assert _refusal(lambda app: app.cron("* * * * *", **policies)(app.task(_nothing))).startswith(refusal)


def test_an_unknown_argument_is_named_before_one_that_is_missing() -> None:
    app = App()

    @app.task
    def resize(url: str, width: int) -> None: ...

    with pytest.raises(TypeError, match="got an unexpected keyword argument 'widht'; it takes url, width"):
        resize.submit_sync(url="x", widht=3)  # type: ignore[call-arg]  # the test is about this
    with pytest.raises(TypeError, match=r"jobs\[0\]: each job is a mapping of its arguments by name, not 5"):
        resize.submit_many_sync([5])  # type: ignore[list-item]  # the test is about this


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Problem) as raised:
        decode(msgspec.json.Decoder(SchedulePlan), b'{"job":{"payload":1},"cron":"* * * * *","missed":"never"}')
    assert str(raised.value) == 'missed: must be one of skip, once, all, not "never"'


def _nothing() -> None: ...
