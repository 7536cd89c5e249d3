"""procrastinate: rows in PostgreSQL, fetched one by one."""

from common import DSN, command, ran
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=DSN))
_opened = []


@app.task(name="noop")
async def noop(sent):
    ran(sent)


async def opened():
    if not _opened:
        _opened.append(await app.open_async())


async def one(sent):
    await opened()
    await noop.defer_async(sent=sent)


async def bulk(jobs):
    await opened()
    await noop.batch_defer_async(*({"sent": 0} for _ in range(jobs)))


async def work():
    await opened()
    await app.run_worker_async(concurrency=20, install_signal_handlers=False)


async def prepare():
    await opened()
    await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    command(one, bulk, work, prepare)
