"""Tasks that do nothing, and what of the Python API each of them uses: beside each other in bench.overheads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pydantic

from taskd import App, Context, Depends

app = App()


@dataclass
class Box:
    """An argument of its own type."""

    width: int
    name: str


class Struct(msgspec.Struct):
    """The same for msgspec."""

    width: int
    name: str


class Model(pydantic.BaseModel):
    """The same for Pydantic."""

    width: int
    name: str


class Pool:
    """What an executor opens once."""


@app.provide
def pool() -> Pool:
    """Opened once."""
    return Pool()


@app.provide(per="attempt")
def session(pool: Pool = Depends()) -> Iterator[int]:
    """Opened for each attempt."""
    yield 1


@app.task
async def bare() -> None:
    """No arguments, no context: what the others are compared with."""


@app.task
async def untyped(box) -> None:  # type: ignore[no-untyped-def]  # that is the point
    """The same payload as those below, not decoded into anything."""


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
async def with_session(one: int = Depends(session)) -> None:
    """One that is opened for the attempt."""
