"""A load of orders from a CSV file into SQLite, with checkpoints."""

from __future__ import annotations

import csv
import itertools
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import taskd

app = taskd.App()
BATCH = 500
SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sums (customer TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS writer (job INTEGER PRIMARY KEY, attempt INTEGER NOT NULL);
"""


@dataclass
class Position:
    """Position of a load: the rows that are written, and the offset of the next one in the file."""

    rows: int = 0
    offset: int = 0


@app.task(max_retries=3, timeout=3600)
def load(ctx: taskd.Context, source: str, target: str, pause: float = 0.0) -> dict[str, int]:
    """Load the file, with a pause of so many seconds after each batch.

    Return the number of rows, and the row at which this attempt began.
    """
    position = Position(**(ctx.checkpoint_value or {}))
    began_at = position.rows
    size = Path(source).stat().st_size
    with closing(sqlite3.connect(target, timeout=30)) as db, open(source, encoding="utf-8", newline="") as file:
        db.executescript(SCHEMA)
        file.seek(position.offset)
        while lines := list(itertools.islice(iter(file.readline, ""), BATCH)):
            rows = [(int(number), customer, int(cents)) for number, customer, cents in csv.reader(lines)]
            with transaction(db, ctx):
                db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
            position = Position(position.rows + len(rows), file.tell())
            ctx.checkpoint_sync(asdict(position))
            ctx.progress_sync(position.offset / size, f"{position.rows} rows")
            time.sleep(pause)
        with transaction(db, ctx):
            db.execute("DELETE FROM sums")
            db.execute("INSERT INTO sums SELECT customer, sum(cents) FROM orders GROUP BY customer")
    return {"rows": position.rows, "began_at": began_at}


@contextmanager
def transaction(db: sqlite3.Connection, ctx: taskd.Context) -> Iterator[None]:
    """Open a transaction; raise ClaimLost if a later attempt of the job has written."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT attempt FROM writer WHERE job = ?", (ctx.job.id,)).fetchone()
        if row is not None and row[0] > ctx.attempt:
            raise taskd.ClaimLost(f"attempt {row[0]} writes now")
        db.execute("INSERT OR REPLACE INTO writer VALUES (?, ?)", (ctx.job.id, ctx.attempt))
        yield


def write_orders(file: Path, count: int) -> Counter[str]:
    """Write a file with so many orders. Return the sum of each customer."""
    owed: Counter[str] = Counter()
    numbers = random.Random(7)
    with file.open("w", encoding="utf-8", newline="") as out:
        for number in range(count):
            customer, cents = f"customer {numbers.randrange(50)}", numbers.randrange(1, 10_000)
            out.write(f"{number},{customer},{cents}\n")
            owed[customer] += cents
    return owed


def main(folder: Path, count: int, pause: float) -> None:
    """Write a file, load it, and compare the sums."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder.absolute() / "orders.csv", folder.absolute() / "orders.sqlite"
    target.unlink(missing_ok=True)
    owed = write_orders(source, count)
    handle = load.submit_sync(source=str(source), target=str(target), pause=pause)
    print(f"job {handle.id}", flush=True)
    result = handle.result(timeout=600)
    with closing(sqlite3.connect(target)) as db:
        exact = dict(db.execute("SELECT customer, cents FROM sums")) == dict(owed)
    attempts = len(handle.job()["attempts"])
    print(f"{result['rows']} rows in {attempts} attempts, the last one began at row {result['began_at']}; ", end="")
    print("the sums are exact" if exact else "THE SUMS ARE WRONG")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
