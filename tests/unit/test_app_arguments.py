"""Tests of arguments: a payload becomes arguments, or a message that names what does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from msgspec import Meta, Struct

from taskd import App, Context, Fail
from tests.unit.claims import no_link, order

app = App()
Return = tuple[Any, ...]


class Point(Struct):
    x: int
    y: int = 0


@app.task
def pair(x: int, y: str = "why") -> Return:
    return x, y


@app.task
def two(x: int, y: int) -> Return:
    return x, y


@app.task
def optional(x: int = 1, y: int = 2) -> Return:
    return x, y


@app.task
def nothing() -> Return:
    return ()


@app.task
def point(at: Point) -> Return:
    return at.x, at.y


@app.task
def positive(number: Annotated[float, Meta(ge=0)]) -> Return:
    return (number,)


@app.task
def numbers(values: list[int]) -> Return:
    return tuple(values)


@app.task
def moment(when: datetime) -> Return:
    return (when.year,)


@app.task
def fields(**rest: int) -> Return:
    return (rest,)


@app.task
def anything(ctx: Context, /, *value: Any, **rest: Any) -> Return:
    return ctx.job.id, value, rest


@app.task
def by_name(ctx, x: int) -> Return:  # type: ignore[no-untyped-def]  # the name alone asks for the context
    return ctx.job.id, x


@app.task
def by_annotation(x: int, *, about: Context) -> Return:
    return about.attempt, x


@app.task
def by_optional_annotation(x: int, about: Context | None = None) -> Return:
    assert about is not None
    return about.job.timeout, x


@app.task(timeout=30)
def timed(ctx: Context) -> Return:
    return (ctx.job.timeout,)


def call(task: str, payload: str, timeout: float | None = None) -> Any:
    return app.prepare(order(5, task, payload.encode(), attempt=7, timeout=timeout), no_link)()


@pytest.mark.parametrize(
    ("task", "payload", "result"),
    [
        (pair, '{"x": 1}', (1, "why")),
        (pair, ' {"x": 1, "y": "z"} ', (1, "z")),
        (pair, "5", (5, "why")),
        (optional, "5", (5, 2)),
        (optional, "{}", (1, 2)),
        (optional, '{"y": 5}', (1, 5)),
        (nothing, "{}", ()),
        (nothing, " null ", ()),
        (point, '{"at": {"x": 1}}', (1, 0)),
        (positive, "1", (1.0,)),
        (numbers, "[1, 2]", (1, 2)),
        (moment, '"2020-01-01T00:00:00Z"', (2020,)),
        (fields, '{"a": 1}', ({"a": 1},)),
        (anything, '{"a": 1, "ctx": 2, "value": 3, "rest": 4}', (5, (), {"a": 1, "ctx": 2, "value": 3, "rest": 4})),
        (anything, "[1]", (5, ([1],), {})),
        (anything, "null", (5, (None,), {})),
        (by_name, '{"x": 1}', (5, 1)),
        (by_name, "1", (5, 1)),
        (by_annotation, '{"x": 1}', (7, 1)),
        (by_annotation, "1", (7, 1)),
        (by_optional_annotation, "1", (None, 1)),
    ],
)
def test_a_payload_that_fits_is_bound(task: Any, payload: str, result: Return) -> None:
    assert call(task.name, payload) == result


@pytest.mark.parametrize(
    ("task", "payload", "words"),
    [
        (pair, '{"x": "q"}', ['argument x: must be a whole number, not "q"']),
        (pair, '{"x": 1.5}', ["argument x: must be a whole number, not 1.5"]),
        (pair, '{"x": true}', ["argument x: must be a whole number, not true"]),
        (pair, '"z"', ['argument x: must be a whole number, not "z"']),
        (pair, '{"y": "z"}', ["argument x: is required; it takes a JSON object with the fields `x`, `y`"]),
        (pair, '{"x": 1, "z": 2}', ["argument z: is not taken; it takes a JSON object with the fields `x`, `y`"]),
        (two, "1", ["`x`, `y`", "a number"]),
        (two, "[1, 2]", ["`x`, `y`", "an array"]),
        (nothing, "1", ["no arguments", "a number"]),
        (nothing, '{"a": 1}', ["argument a: is not taken; it takes no arguments"]),
        (point, '{"at": {"x": "u"}}', ['argument at.x: must be a whole number, not "u"']),
        (positive, "-1", ["argument number:", ">= 0", "not -1"]),
        (positive, "1e400", ["argument number:", "out of range"]),
        (numbers, '[1, "a"]', ['argument values[1]: must be a whole number, not "a"']),
        (moment, '"yesterday"', ["argument when: must be a time, as in 2026", 'not "yesterday"']),
        (fields, '{"a": "1"}', ["`a`", "`int`"]),
        (fields, "1", ["a JSON object", "a number"]),
        (by_name, '{"ctx": 1, "x": 2}', ["argument ctx: is not taken"]),
        (pair, '{"x": Infinity}', ["malformed"]),
        (pair, "", ["truncated"]),
        (anything, "[" * 100_000 + "]" * 100_000, ["nested too deeply"]),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_naming_the_field(task: Any, payload: str, words: list[str]) -> None:
    with pytest.raises(Fail) as caught:
        call(task.name, payload)
    message = str(caught.value)
    assert f"task {task.name!r}" in message
    assert all(word in message for word in words), message


def unknown(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - as after a bad import


def misspelt(x: datetime.Zone) -> None: ...  # type: ignore[name-defined]


def promising() -> Missing: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(("function", "words"), [(unknown, "'x'"), (misspelt, "'x'"), (promising, "'return'")])
async def test_an_annotation_that_cannot_be_read_keeps_the_app_from_starting(function: Any, words: str) -> None:
    careless = App()
    careless.on_start(lambda: pytest.fail("nothing is opened before"))
    careless.task(function)
    with pytest.raises(TypeError, match=rf"task '{function.__name__}': the annotation of {words} cannot be read .*Any"):
        await careless.start()


def test_an_annotation_that_cannot_be_read_keeps_the_task_from_being_submitted() -> None:
    with pytest.raises(TypeError, match="the annotation of 'x' cannot be read"):
        App().task(unknown).submit_sync(x=1)


def context_by_name(ctx: Missing, x: int) -> int:  # type: ignore[name-defined]  # noqa: F821 - as under TYPE_CHECKING
    assert isinstance(ctx, Context)
    return x


async def test_the_context_is_recognized_by_its_name_whatever_its_annotation() -> None:
    linted = App()
    linted.task(context_by_name)
    await linted.start()
    assert linted.prepare(order(5, "context_by_name", b'{"x": 2}'), no_link)() == 2


def test_an_unknown_task_is_a_lookup_error() -> None:
    with pytest.raises(LookupError):
        call("never", "{}")


@pytest.mark.parametrize(("submitted", "effective"), [(None, 30.0), (5.0, 5.0)])
def test_the_context_has_the_timeout_that_counts(submitted: float | None, effective: float) -> None:
    assert call("timed", "{}", timeout=submitted) == (effective,)


def test_annotations_may_name_what_is_defined_later() -> None:
    later = App()

    @later.task
    def it(value: Later) -> Later:
        return value

    bind: Callable[..., Any] = it.arguments.bind
    assert bind(b'{"value": {"x": 1}}', lambda: None) == ([], {"value": Later(1)})


class Later(Struct):
    x: int


@dataclasses.dataclass
class Purchase:
    item: str
    count: int = 1


class Corner(NamedTuple):
    x: int
    y: int


@app.task
def nested(
    order: Purchase | None = None,
    sizes: dict[str, list[int]] = {},  # noqa: B006 - it is not changed
    corner: Corner = Corner(0, 0),  # noqa: B008 - it cannot be changed
    code: Annotated[str, Meta(pattern="^a")] = "a",
    day: date | None = None,
    colour: Literal["red", "blue"] = "red",
) -> None: ...


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ('{"order": {"item": 5}}', "argument order.item: must be a text, not 5"),
        ('{"order": 5}', "argument order: must be an object with the fields item, count, not 5"),
        ('{"order": {"itm": ""}}', "argument order.item: is required; it takes item, count"),
        ('{"sizes": {"a": [1, "x"]}}', "argument sizes[...][1]: must be a whole number"),
        ('{"corner": [1, null]}', "argument corner[1]: must be a whole number, not null"),
        ('{"corner": 5}', "argument corner: must be an array of 2 values, not 5"),
        ('{"code": "b"}', "argument code: Expected `str` matching regex '^a', not \"b\""),
        ('{"day": "1.2.26"}', 'argument day: must be a date, as in 2026-01-31, not "1.2.26"'),
        ('{"colour": "green"}', 'argument colour: must be one of blue, red, not "green"'),
        ('{"day": "%s"}' % ("x" * 50), "argument day: must be a date, as in 2026-01-31"),
    ],
)
def test_a_refusal_names_the_place_and_the_value_that_does_not_fit(payload: str, message: str) -> None:
    with pytest.raises(Fail) as caught:
        call("nested", payload)
    assert str(caught.value) == f"the payload does not fit the task 'nested': {message}"
