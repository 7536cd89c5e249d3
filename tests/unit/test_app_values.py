"""Tests of values of every type that an annotation may name: they arrive and come back unchanged, or are refused at once."""

from __future__ import annotations

import collections
import dataclasses
import enum
import ipaddress
import re
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskd import App, Context, Fail
from taskd.app.results import ResultCodec
from taskd.domain.errors import Unstorable
from taskd.executor.results import ResultEncoder
from taskd.worker.pool.protocol import EndKind
from tests.unit.claims import order

BERLIN = ZoneInfo("Europe/Berlin")


class Thumb(pydantic.BaseModel):
    path: Path
    width: int = 0


class Cat(pydantic.BaseModel):
    meows: bool


class Size(enum.IntEnum):
    SMALL = 1


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Span:
    begin: datetime
    where: Path | None = None


class Point(msgspec.Struct):
    x: Decimal
    seen: set[date] = msgspec.field(default_factory=set)


class Pair(NamedTuple):
    left: int
    right: str


class Row(TypedDict):
    day: date


VALUES: list[tuple[Any, Any]] = [
    (list[Thumb], [Thumb(path=Path("/a"), width=3)]),
    (Thumb | None, Thumb(path=Path("b"))),
    (Thumb | Cat, Cat(meows=True)),
    (dict[str, Thumb | Cat], {"a": Cat(meows=False), "b": Thumb(path=Path("c"))}),
    (Span, Span(datetime(2026, 1, 1, tzinfo=UTC), Path("/x"))),
    (Span, Span(datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1))),
    (list[datetime], [datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)]),
    (set[datetime], {datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)}),
    (Point, Point(Decimal("1.10"), {date(2026, 1, 1)})),
    (Pair, Pair(1, "x")),
    (Row, Row(day=date(2026, 1, 2))),
    (uuid.UUID, uuid.UUID(int=7)),
    (date, date(2026, 2, 28)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=1, microseconds=5)),
    (Decimal, Decimal("0.10")),
    (Fraction, Fraction(1, 3)),
    (Size, Size.SMALL),
    (Colour, Colour.RED),
    (set[int], {1, 2}),
    (frozenset[str], frozenset("ab")),
    (tuple[int, str], (1, "a")),
    (tuple[date, ...], (date(2026, 1, 1),)),
    (bytes, b"\x00\xff"),
    (Path, Path("/tmp/a")),
    (PurePosixPath, PurePosixPath("a/b")),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("10.0.0.1")),
    (ipaddress.IPv6Network, ipaddress.IPv6Network("fd00::/8")),
    (collections.Counter, collections.Counter("aab")),
    (collections.Counter[date], collections.Counter([date(2026, 1, 1)])),
    (collections.deque[date], collections.deque([date(2026, 1, 1)])),
    (collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
    (Sequence[date], [date(2026, 1, 1)]),
    (dict[date, int], {date(2026, 1, 1): 1}),
    (dict[int, str], {1: "a"}),
    (object, {"a": [1, None]}),
    (Any, [1, "a", None, True, 0.5]),
]


def named(value: Any) -> str | None:
    """Name a test by its type: values may show addresses, or sets in any order."""
    return (
        re.sub(r"<class '(.*)'>", r"\1", str(value))[:60]
        if isinstance(value, type) or typing.get_origin(value)
        else None
    )


def ended(function: Callable[..., Any], value: Any) -> Any:
    results = ResultCodec("it", function)
    return ResultEncoder(1 << 20, 1 << 16).returned(order(), value, results.encoder), results


def annotated(kind: Any) -> Callable[..., Any]:
    def it(value: Any) -> Any:
        return value

    it.__annotations__ = {"value": kind, "return": kind}
    return it


def lambda_of(value: Any) -> Callable[[], int]:
    def it() -> int:
        return value  # type: ignore[no-any-return]

    return it


def _bound(function: Callable[..., Any], value: Any) -> tuple[list[Any], dict[str, Any]]:
    arguments = App().task(function).arguments
    return arguments.bind(arguments.payload((), {"value": value}), _no_context)


def _no_context() -> Context:
    raise AssertionError("the function takes no context")


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=named)
def test_an_argument_arrives_as_its_annotation_says(kind: Any, value: Any) -> None:
    app = App()
    task = app.task(annotated(kind))
    args, kwargs = task.arguments.bind(task.arguments.payload((), {"value": value}), _no_context)
    arrived = kwargs["value"] if kwargs else args[0]
    assert type(arrived) is type(value)
    if not isinstance(value, Span | list | set):  # instants that Python calls unequal
        assert arrived == value


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=named)
def test_a_result_comes_back_as_its_annotation_says(kind: Any, value: Any) -> None:
    end, results = ended(annotated(kind), value)
    assert end.kind is EndKind.COMPLETED, end.data
    read = results.read(msgspec.json.decode(end.data))
    assert type(read) is type(value)
    if not isinstance(value, Span | list | set):
        assert read == value
    run = App().testing().run_sync(App().task(annotated(kind)), value)
    assert run.error is None


class Moment(datetime):
    """A datetime class of a library, such as pendulum's."""


class DriverId(uuid.UUID):
    """A UUID class of a driver, such as asyncpg's."""


class Whole:
    """A whole number that is no int, such as numpy's."""

    def __index__(self) -> int:
        return 3

    def __eq__(self, other: object) -> bool:
        return other == 3

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (int, True, 1),
        (list[int | None], [True, None], [1, None]),
        (dict[date, float], {date(2026, 1, 1): True}, {date(2026, 1, 1): 1.0}),
        (bool, True, True),
        (int, Whole(), 3),
        (set[int], {3}, {3}),
        (dict[date, int], {date(2026, 1, 1): Whole()}, {date(2026, 1, 1): 3}),
        (datetime, Moment(2026, 1, 1, 2, 3, 4, 5, BERLIN), datetime(2026, 1, 1, 2, 3, 4, 5, BERLIN)),
        (uuid.UUID, DriverId(int=7), uuid.UUID(int=7)),
        (Decimal, type("Money", (Decimal,), {})("1.10"), Decimal("1.10")),
        (str, Colour("red").value, "red"),
        (int, Size.SMALL, 1),
    ],
    ids=named,
)
def test_a_result_of_a_type_that_checkers_take_for_the_annotation_is_read_as_it(
    kind: Any, value: Any, read: Any
) -> None:
    end, results = ended(annotated(kind), value)
    assert end.kind is EndKind.COMPLETED, end.data
    decoded = results.read(msgspec.json.decode(end.data))
    assert decoded == read
    assert type(decoded) is type(read)


def test_a_bench_takes_a_result_as_a_worker_does() -> None:
    task = App().task(lambda_of(True))
    assert App().testing().run_sync(task).result == 1


@pytest.mark.parametrize(
    "when", [datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))), datetime.min.replace(tzinfo=timezone.max)]
)
@pytest.mark.parametrize("kind", [datetime, list[datetime], set[datetime]])
def test_an_instant_beyond_the_years_of_utc_arrives(when: datetime, kind: Any) -> None:
    sent = when if kind is datetime else {when} if kind == set[datetime] else [when]
    task = App().task(annotated(kind))
    payload = task.arguments.payload((), {"value": sent})
    assert when.isoformat()[:10].encode() in payload


def test_a_decimal_that_is_no_number_arrives() -> None:
    _, kwargs = _bound(annotated(Decimal), Decimal("NaN"))
    assert kwargs["value"].is_nan()


class Later(NamedTuple):
    when: date


@pytest.mark.parametrize(
    "kind",
    [list["Later"], typing.Optional["Later"], dict[str, list["Later"]], typing.Annotated["Later", 1], "list['Later']"],
    ids=str,
)
def test_an_annotation_may_have_a_text_in_it(kind: Any) -> None:
    assert ResultCodec("it", annotated(kind)).prepare() is None  # type: ignore[func-returns-value]


class Written(pydantic.BaseModel):
    url: str = pydantic.Field(validation_alias="inUrl", serialization_alias="outUrl")


class Mapping_(Written):
    @pydantic.model_validator(mode="before")
    @classmethod
    def take(cls, fields: Any) -> Any:
        return {"inUrl": fields.get("outUrl", fields.get("inUrl"))}


class Aliased(pydantic.BaseModel):
    url: str = pydantic.Field(alias="theUrl")


class Chosen(pydantic.BaseModel):
    url: str = pydantic.Field(validation_alias=pydantic.AliasChoices("address", "url"))


class Computing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    width: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.width


@pytest.mark.parametrize("kind", [Written, list[Written], dict[str, Written | None]], ids=named)
def test_a_model_that_cannot_read_what_it_writes_is_refused_as_a_result_only(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"task 'it': no result can be read back .*Written: its field 'url'"):
        ResultCodec("it", annotated(kind))
    function = annotated(kind)
    del function.__annotations__["return"]
    App().task(function)


@pytest.mark.parametrize(
    "value", [Aliased(theUrl="a"), Mapping_.model_validate({"inUrl": "a"}), Chosen(url="a"), Computing(width=3)]
)
def test_models_with_aliases_and_computed_fields_come_back(value: Any) -> None:
    run = App().testing().run_sync(App().task(annotated(type(value))), value)
    assert run.result == value


# Before about 1980 some zones are off by odd seconds, which RFC 3339 cannot say: those are refused by the submit.
@given(when=st.datetimes(min_value=datetime(1980, 1, 1), timezones=st.timezones()))
def test_an_instant_arrives_whatever_its_zone_shows(when: datetime) -> None:
    task = App().task(annotated(datetime))
    _, kwargs = task.arguments.bind(task.arguments.payload((), {"value": when}), _no_context)
    assert kwargs["value"].astimezone(UTC) == when.astimezone(UTC)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (list[Thumb], [Cat(meows=True)], "does not fit the annotation"),
        (Thumb, {"width": "x"}, "does not fit the annotation"),
        (tuple[date, Any], (date(2026, 1, 1), date(2026, 1, 1)), "would be read as"),
        (tuple[date, float | None], (date(2026, 1, 1), float("nan")), "would be read as"),
        (Any, date(2026, 1, 1), "object of type date.*return annotation"),
        (dict[str, Any], {"at": Path("/a")}, "object of type PosixPath"),
        (Any, object(), "object of type object"),
        (Any, "x" * (1 << 20), "at most 1048576 are stored"),
        (bytes, b"x" * (1 << 20), "at most 1048576 are stored"),
        (list[Thumb], [Thumb(path=Path("a\0"))], "NUL"),
        (Any, float("inf"), "NaN or infinite"),
    ],
    ids=named,
)
def test_a_result_that_cannot_be_stored_fails_the_job_for_good(kind: Any, value: Any, words: str) -> None:
    end, _ = ended(annotated(kind), value)
    assert end.kind is EndKind.FAILED_FOR_GOOD
    assert re.search(words, end.data.decode())


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Thumb, {"path": "/a"}), (Span, {"begin": "2026-01-01T00:00:00Z"}), (list[date], ["2026-01-01"]), (set[int], [1])],
    ids=named,
)
def test_a_result_may_be_what_its_annotation_is_read_from(kind: Any, value: Any) -> None:
    assert ended(annotated(kind), value)[0].kind is EndKind.COMPLETED


class Plain:
    pass


@dataclasses.dataclass
class Holder:
    it: Plain


@pytest.mark.parametrize(
    "kind",
    [Plain, list[Plain], Holder, dict[str, Holder], complex, re.Pattern, Iterator[int], Callable, type, range, date | str,
     Thumb | Plain, collections.defaultdict, bytes | str],
    ids=named,
)  # fmt: skip
@pytest.mark.parametrize("place", ["value", "return"])
def test_a_type_that_json_cannot_carry_is_refused_where_the_task_is_defined(kind: Any, place: str) -> None:
    function = annotated(Any)
    function.__annotations__[place] = kind
    with pytest.raises(TypeError, match=rf"task 'it': the annotation of '{place}' cannot travel as JSON"):
        App().task(function)


app = App()


@app.task
async def keeps(ctx: Context, bad: bool = False) -> Span | None:
    await ctx.checkpoint(object() if bad else [Span(datetime(2026, 1, 1, tzinfo=UTC), Path("/x"))])
    spans = ctx.checkpoint_as(list[Span])
    return spans[0] if spans else None


def test_a_checkpoint_is_read_as_its_type() -> None:
    spans = [Span(datetime(2026, 1, 1, tzinfo=UTC), Path("/x"))]
    run = app.testing(checkpoint=spans).run_sync(keeps)
    assert (run.result, run.checkpoint) == (spans[0], [{"begin": "2026-01-01T00:00:00Z", "where": "/x"}])
    assert app.testing().run_sync(keeps).result is None


def test_a_checkpoint_that_cannot_be_stored_or_read_fails_for_good() -> None:
    error = app.testing().run_sync(keeps, bad=True).error
    assert isinstance(error, Unstorable)
    assert isinstance(error, Fail | ValueError)
    assert isinstance(app.testing(checkpoint=3).run_sync(keeps).error, TypeError)
