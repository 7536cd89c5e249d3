"""celery: lists in Redis, two solo workers, prefetch 128, no results."""

from celery import Celery
from common import REDIS, command, ran

app = Celery("celery_peer", broker=REDIS)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=128,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop", ignore_result=True)
def noop(sent):
    ran(sent)


def one(sent):
    noop.apply_async((sent,))


def bulk(jobs):
    with app.producer_or_acquire() as producer:
        for _ in range(jobs):
            noop.apply_async((0,), producer=producer)


if __name__ == "__main__":
    command(one, bulk)
