"""pgqueuer: rows in PostgreSQL, batches of 500, deleted at their end."""

import asyncpg
import uvloop
from common import DSN, command, ran
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

uvloop.install()
_opened = []


async def queries():
    if not _opened:
        _opened.append(Queries(AsyncpgDriver(await asyncpg.connect(DSN))))
    return _opened[0]


async def one(sent):
    await (await queries()).enqueue("noop", str(sent).encode(), priority=0)


async def bulk(jobs):
    await (await queries()).enqueue(["noop"] * jobs, [b"0"] * jobs, [0] * jobs)


async def work():
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(DSN)))

    @queuer.entrypoint("noop")
    async def noop(job):
        ran(int(job.payload))

    await queuer.run(batch_size=500)


async def prepare():
    await (await queries()).install()


if __name__ == "__main__":
    command(one, bulk, work, prepare)
