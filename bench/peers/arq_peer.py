"""arq: a sorted set in Redis, polled every 5 ms, no results kept."""

import asyncio

from arq import create_pool
from arq.connections import RedisSettings
from common import REDIS, command, ran

SETTINGS = RedisSettings.from_dsn(REDIS)
_opened = []


async def noop(ctx, sent):
    ran(sent)


async def pool():
    if not _opened:
        _opened.append(await create_pool(SETTINGS))
    return _opened[0]


async def one(sent):
    await (await pool()).enqueue_job("noop", sent)


async def bulk(jobs):
    redis_pool = await pool()
    await asyncio.gather(*(redis_pool.enqueue_job("noop", 0) for _ in range(jobs)))


class WorkerSettings:
    functions = (noop,)
    redis_settings = SETTINGS
    max_jobs = 500
    poll_delay = 0.005
    keep_result = 0
    queue_read_limit = 500


if __name__ == "__main__":
    command(one, bulk)
