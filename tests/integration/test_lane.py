"""Test abandoned calls of a lane."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from taskd.domain.errors import StoreUnavailable
from taskd.store.lane import Lane
from tests.servers import wait_until_async

#: Numbers of turns of the event loop after which a call is abandoned, for every stage of a call.
GIVE_UP = """
import asyncio, sys, uvloop
from taskd.store.lane import Lane

async def main(dsn):
    lane = Lane(dsn, name="test", deadline=10.0)
    for turns in range(120):
        await lane.fetch("SELECT 1")
        call = asyncio.ensure_future(lane.fetch("SELECT pg_sleep(0.0005)"))
        for _ in range(turns % 60):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
    await lane.close()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(sys.argv[1]))
"""


@pytest.fixture
async def lane(postgres_dsn: str) -> AsyncIterator[Lane]:
    lane = Lane(postgres_dsn, name="test", deadline=30.0)
    yield lane
    await lane.close()


def test_a_call_that_is_given_up_at_any_moment_does_not_end_the_process(postgres_dsn: str) -> None:
    """Test the case in which libuv aborts: a socket is closed in the same turn of the loop in which it is watched."""
    ended = subprocess.run([sys.executable, "-c", GIVE_UP, postgres_dsn], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, (ended.returncode, ended.stderr)


async def test_a_late_call_is_one_error_and_the_next_one_works(lane: Lane) -> None:
    with pytest.raises(StoreUnavailable) as late:
        await lane.fetch("SELECT pg_sleep(60)", deadline=0.1)
    assert late.value.outcome_unknown
    assert await lane.fetch("SELECT 1") == [(1,)]


async def test_a_call_that_is_late_in_line_leaves_the_one_before_it_alone(lane: Lane) -> None:
    await lane.fetch("SELECT 1")
    first = asyncio.ensure_future(lane.fetch("SELECT pg_sleep(1), 7"))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await lane.fetch("SELECT 1", deadline=0.1)
    assert (await first)[0][1] == 7


async def test_closing_ends_the_call_that_is_under_way(lane: Lane, postgres_dsn: str) -> None:
    watcher = Lane(postgres_dsn, name="watcher", deadline=30.0)
    call = asyncio.ensure_future(lane.fetch("SELECT pg_sleep(60)"))
    await wait_until_async(
        lambda: watcher.fetch(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'"
            " AND pid <> pg_backend_pid() AND state = 'active'"
        )
    )
    await lane.close()
    with pytest.raises(StoreUnavailable):
        await call
    await watcher.close()


async def test_a_lane_that_rests_has_no_connection_until_it_is_used_again(lane: Lane, postgres_dsn: str) -> None:
    other = Lane(postgres_dsn, name="watch", deadline=10.0)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()"

    async def connections() -> int:
        return int((await other.fetch(query))[0][0])

    async def gone() -> bool:
        return await connections() == 0

    await lane.fetch("SELECT 1")
    assert await connections() == 1
    await lane.rest()
    await wait_until_async(gone)
    await lane.fetch("SELECT 1")
    assert await connections() == 1
    await other.close()
