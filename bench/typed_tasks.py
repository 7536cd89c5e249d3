"""Tasks that do nothing, each with another part of the Python API, for bench.overheads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pydantic

from taskd import App, Context, Depends

app = App()


@dataclass
class Box:
    """An argument as a dataclass."""

    width: int
    name: str


class Struct(msgspec.Struct):
    """An argument as a msgspec struct."""

    width: int
    name: str


class Model(pydantic.BaseModel):
    """An argument as a Pydantic model."""

    width: int
    name: str


class Pool:
    """A dependency that an executor opens once."""


@app.provide
def pool() -> Pool:
    """Open a pool, once for an executor."""
    return Pool()


@app.provide(per="attempt")
def session(pool: Pool = Depends()) -> Iterator[int]:
    """Open a session, for each attempt."""
    yield 1


@app.task
async def bare() -> None:
    """No arguments, no context: the base of the comparison."""


@app.task
async def untyped(box) -> None:  # type: ignore[no-untyped-def]  # it is measured without an annotation
    """The payload of the tasks below, not decoded into a type."""


@app.task
async def context(ctx: Context) -> None:
    """A context."""


@app.task
async def with_dataclass(ctx: Context, box: Box) -> None:
    """A context and a dataclass."""


@app.task
async def with_struct(ctx: Context, box: Struct) -> None:
    """A context and a msgspec struct."""


@app.task
async def with_model(ctx: Context, box: Model) -> None:
    """A context and a Pydantic model."""


@app.task
async def with_pool(pool: Pool = Depends()) -> None:
    """A dependency that the executor has opened."""


@app.task
async def with_session(number: int = Depends(session)) -> None:
    """A dependency that is opened for the attempt."""
