"""taskiq on Redis Streams, two processes, no results."""

import asyncio

from common import REDIS, command, ran
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=REDIS)
_opened = []


@broker.task(task_name="noop")
async def noop(sent):
    ran(sent)


async def one(sent):
    if not _opened:
        _opened.append(await broker.startup())
    await noop.kiq(sent)


async def bulk(jobs):
    await asyncio.gather(*(noop.kiq(0) for _ in range(jobs)))


if __name__ == "__main__":
    command(one, bulk)
