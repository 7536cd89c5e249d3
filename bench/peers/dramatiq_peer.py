"""dramatiq: Redis, two processes of four threads, with retries and nothing else."""

import dramatiq
from common import REDIS, command, ran
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

dramatiq.set_broker(RedisBroker(url=REDIS, middleware=[Retries()]))


@dramatiq.actor
def noop(sent):
    ran(sent)


def one(sent):
    noop.send(sent)


def bulk(jobs):
    for _ in range(jobs):
        noop.send(0)


if __name__ == "__main__":
    command(one, bulk)
