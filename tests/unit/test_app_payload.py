"""Tests of payloads: a call becomes a payload from which a worker makes the same arguments, or a TypeError."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from taskd import App, Context, Fail, Task
from tests.unit.claims import no_link, order

NOW = datetime.now(UTC)
NAN = float("nan")
app = App()


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Box:
    at: Point
    width: float


class Image(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    url: str
    taken: date
    sizes: list[int] = []
    _seen: int = pydantic.PrivateAttr(default_factory=itertools.count().__next__)


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


class Pair(NamedTuple):
    a: int
    b: int


class Unequal(msgspec.Struct, eq=False):
    x: int


@app.task
def pair(x: int, y: str = "why") -> Any:
    return x, y


@app.task
async def described(ctx: Context, x: int, *, note: str | None = None) -> Any:
    return x, note


@app.task
def untyped(value) -> Any:  # type: ignore[no-untyped-def]  # as many tasks are
    return value


@app.task
def typed(
    when: datetime | None = None,
    colour: Colour = Colour.RED,
    price: Decimal = Decimal(0),
    data: bytes = b"",
    corner: tuple[int, int] = (0, 0),
    names: frozenset[str] = frozenset(),
    two: Pair = Pair(0, 0),  # noqa: B008 - it cannot be changed
    ratio: float = 0.0,
) -> Any:
    return dict(locals())


@app.task
def models(image: Image, spare: Image | None = None, more: list[Image] = [], point: Point | None = None) -> Any:  # noqa: B006
    return image, spare, more, point


@app.task
def box(box: Box) -> Any:
    return box


@app.task
def secret(login: Login) -> Any:
    return login


@app.task
def unequal(it: Unequal, more: dict[str, list[Unequal]]) -> Any:
    return more


@app.task
def rest(ctx: Context, **more: int) -> Any:
    return more


@app.task
def anything(ctx: Context, /, *value: Any, **more: Any) -> Any:
    return value, more


@app.task
def nothing(ctx: Context) -> Any:
    return None


IMAGE = Image(url="u", taken=date(2026, 1, 31), sizes=[1, 2])


def payload(task: Task[Any, Any], *args: Any, **kwargs: Any) -> bytes:
    return task.arguments.payload(args, kwargs)


def arrives(task: Task[Any, Any], text: bytes) -> Any:
    return app.prepare(order(5, task.name, text), no_link)()


def call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@pytest.mark.parametrize(
    ("task", "given", "text"),
    [
        (pair, call(1), b'{"x":1}'),
        (pair, call(1, "z"), b'{"x":1,"y":"z"}'),
        (pair, call(y="z", x=1), b'{"x":1,"y":"z"}'),
        (described, call(1, note="n"), b'{"x":1,"note":"n"}'),
        (described, call(x=1, note=None), b'{"x":1,"note":null}'),
        (untyped, call({"a": [1, None, 2.5]}), b'{"value":{"a":[1,null,2.5]}}'),
        (untyped, call(2**70), b'{"value":1180591620717411303424}'),
        (typed, call(ratio=1), b'{"ratio":1}'),
        (rest, call(a=1, value=2), b'{"a":1,"value":2}'),
        (rest, call(), b"{}"),
        (anything, call(a=1, ctx=2), b'{"a":1,"ctx":2}'),
        (anything, call([1]), b"[1]"),
        (anything, call(), b"{}"),
        (nothing, call(), b"{}"),
        (box, call(Box(Point(1), 2.0)), b'{"box":{"at":{"x":1,"y":0},"width":2.0}}'),
        (models, call(IMAGE), b'{"image":' + IMAGE.model_dump_json().encode() + b"}"),
    ],
)
def test_a_call_becomes_a_payload(task: Any, given: Any, text: bytes) -> None:
    args, kwargs = given
    assert payload(task, *args, **kwargs) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("when", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("colour", Colour.RED),
        ("price", Decimal("1.10")),
        ("data", b"\x00\xff"),
        ("corner", (1, 2)),
        ("names", frozenset({"a"})),
        ("two", Pair(1, 2)),
    ],
)
def test_values_that_json_does_not_have_arrive_by_their_annotation(name: str, value: Any) -> None:
    arrived = arrives(typed, payload(typed, **{name: value}))[name]
    assert (arrived, type(arrived)) == (value, type(value))


def test_structs_dataclasses_and_models_arrive_as_themselves() -> None:
    sent = {"spare": IMAGE, "more": [IMAGE], "point": Point(1, 2)}
    image, spare, more, point = arrives(models, payload(models, IMAGE, **sent))
    assert image.model_dump() == spare.model_dump() == more[0].model_dump() == IMAGE.model_dump()
    assert (type(image), point) == (Image, Point(1, 2))
    assert arrives(box, payload(box, Box(Point(1), 2.0))) == Box(Point(1), 2.0)
    assert arrives(unequal, payload(unequal, Unequal(5), {"a": [Unequal(6)]}))["a"][0].x == 6


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        (pair, call(), ["'x'", "missing"]),
        (pair, call(1, widht=2), ["'widht'", "unexpected", "it takes x, y"]),
        (pair, call(1, "a", 3), ["too many"]),
        (pair, call("1"), ['argument x: must be a whole number, not "1"']),
        (pair, call(True), ["argument x: must be a whole number, not true"]),
        (described, call(ctx=1, x=1), ["'ctx'", "unexpected"]),
        (rest, call(ctx=1), ["argument ctx: is not taken"]),
        (rest, call(a="b"), ["`a`", "`int`"]),
        (nothing, call(1), ["too many"]),
        (anything, call(1, 2), ["no place"]),
        (anything, call(1, a=2), ["no place"]),
        (anything, call({"a": 1}), ["keyword arguments"]),
        (untyped, call((1, 2)), ["'value'", "(1, 2)", "[1, 2]", "annotation"]),
        (untyped, call(NOW), ["'value'", "annotation"]),
        (untyped, call(NAN), ["'value'", "nan", "None"]),
        (untyped, call({1: 2}), ["'value'", "{1: 2}"]),
        (untyped, call(IMAGE), ["'value'", "annotation"]),
        (untyped, call(object()), ["'value'", "type object"]),
        (untyped, call("\ud800"), ["'value'", "surrogates"]),
        (typed, call(ratio=NAN), ["argument ratio: must be a number, not null"]),
        (typed, call(ratio=2**60 + 1), ["'ratio'", "would arrive"]),
        (models, call({"url": 5, "taken": "2026-01-31"}), ["argument image: `url`: "]),
        (models, call(5), ["argument image: "]),
        (box, call(Point(1)), ["argument box.at: is required; it takes at, width"]),
        (secret, call(Login(password=pydantic.SecretStr("x"))), ["'login'", "would arrive"]),
    ],
)
def test_a_call_that_cannot_arrive_is_a_type_error_that_names_the_argument(
    task: Any, given: Any, words: list[str]
) -> None:
    args, kwargs = given
    with pytest.raises(TypeError) as raised:
        payload(task, *args, **kwargs)
    message = str(raised.value)
    assert message.startswith(f"task {task.name!r} cannot be submitted like this: ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"image": {"url": "u"}}', ["argument image: `taken`: Field required"]),
        ('{"image": {"url": 5, "taken": "x"}}', ["`url`", "`taken`"]),
        ('{"image": {"url": "u", "taken": "2026-01-31"}, "more": [{}]}', ["argument more[0]: `url`: "]),
        ('{"image": 5}', ["argument image: ", "object"]),
        ("5", ["argument image: "]),
    ],
)
def test_a_payload_that_fits_no_model_fails_for_good_naming_the_field(text: str, words: list[str]) -> None:
    with pytest.raises(Fail) as raised:
        arrives(models, text.encode())
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_payload_with_the_fields_of_the_model_is_refused_with_the_name_of_the_argument() -> None:
    with pytest.raises(Fail, match="argument width: is not taken; it takes a JSON object with the fields `image`"):
        arrives(models, b'{"width": 5}')


def test_a_field_named_as_the_context_is_refused() -> None:
    with pytest.raises(Fail, match="argument ctx: is not taken"):
        arrives(rest, b'{"ctx": 1}')


@pytest.mark.parametrize(
    ("function", "json", "result"),
    [
        (lambda: None, [1], [1]),
        (untyped.function, {"a": 1}, {"a": 1}),
    ],
)
def test_a_result_without_an_annotation_stays_as_it_is(function: Callable[..., Any], json: Any, result: Any) -> None:
    assert App().task(name="it")(function).results.read(json) == result


def test_a_result_is_what_the_annotation_says_or_a_type_error() -> None:
    def corner() -> tuple[int, int]:
        return 1, 2

    results = App().task(corner).results
    assert results.read([1, 2]) == (1, 2)
    with pytest.raises(TypeError, match=r"task 'corner': Expected `int`, got `str` - at `\$\[1\]`"):
        results.read([1, "b"])
