"""`taskd submit --bulk`: submits a file with one job a line, in batches, with a progress bar.

A line without a dedupe_key gets one that is derived from its content. So the command may be repeated after a failure, or after
a line was corrected: lines that are stored already make no second job.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import typer

from taskd.cli import output
from taskd.client import Client, ClientError
from taskd.domain import exact
from taskd.runtime.terminal import path

if TYPE_CHECKING:
    from collections.abc import Iterable

#: One request holds at most so many jobs and bytes; both are well under what a scheduler takes.
BATCH, BATCH_BYTES = 1000, 4 * 1024 * 1024
#: Bytes that a job is longer on the wire than its line: its key and the options.
OVERHEAD = 500
#: The hexadecimal digits that are kept of a line's SHA-256.
DIGITS = 32
_PLACE = re.compile(r"jobs\[(\d+)\]\.?")


class BulkLine(NamedTuple):
    """One job of the file, and the number of its line."""

    number: int
    job: dict[str, Any]
    size: int


class Source:
    """The file, or stdin (read into memory). It is read twice: once to check it and once to send it."""

    def __init__(self, name: str, defaults: Mapping[str, Any], *, again: bool) -> None:
        self.name = "stdin" if name == "-" else name
        self._path = None if name == "-" else Path(path(name))
        self._text = sys.stdin.buffer.read().splitlines() if name == "-" else []
        self._defaults = defaults
        self._prefix = f"bulk-{secrets.token_hex(8)}" if again else "bulk"

    def __iter__(self) -> Iterator[BulkLine]:
        """Yield each job. Raises BadParameter for the first line that is not a JSON object."""
        seen: Counter[bytes] = Counter()
        if self._path is None:
            yield from self._lines(self._text, seen)
            return
        try:
            with self._path.open("rb") as file:
                yield from self._lines(file, seen)
        except OSError as error:
            raise typer.BadParameter(f"--bulk: {self.name} cannot be read: {error.strerror}") from None

    def _lines(self, lines: Iterable[bytes] | IO[bytes], seen: Counter[bytes]) -> Iterator[BulkLine]:
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not text.strip():
                continue
            job = {**self._defaults, **self._parse(text, number)}
            if job.get("dedupe_key") is None:
                digest = hashlib.sha256(exact.dumps(job, sort_keys=True, ascii_only=True).encode()).digest()
                seen[digest] += 1
                job["dedupe_key"] = f"{self._prefix}-{digest.hex()[:DIGITS]}-{seen[digest]}"
            yield BulkLine(number, job, len(text) + OVERHEAD)

    def _parse(self, text: bytes, number: int) -> dict[str, Any]:
        try:
            job = exact.loads(text)
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(
                f"{self.name}, line {number}: is not valid JSON ({error}): nothing was submitted"
            ) from None
        if not isinstance(job, dict):
            raise typer.BadParameter(
                f'{self.name}, line {number}: must be an object such as {{"payload": 1}}: nothing was submitted'
            )
        return job


def submit(client: Client, source: Source, *, as_json: bool) -> int:
    """Submit every job of `source` and return the exit status.

    Raises BadParameter, or ClientError with the number of jobs that are stored.
    """
    total = sum(1 for _ in source)
    ids: list[int] = []
    duplicates = 0
    with _progress(total, hidden=as_json) as advance:
        for batch in _batches(source):
            try:
                response = _send(client, source, batch, len(ids), total)
            except KeyboardInterrupt:
                output.write_line(f"interrupted: {_so_far(len(ids), total)}", err=True)
                raise
            ids += response["ids"]
            duplicates += len(response["duplicates"])
            advance(len(batch))
    if as_json:
        output.print_json({"submitted": len(ids) - duplicates, "duplicates": duplicates, "ids": ids})
        return 0
    before = f"; {duplicates:,} had been submitted before (--again makes new jobs of them)" if duplicates else ""
    output.write_line(f"{output.count(len(ids) - duplicates)} submitted{before}")
    return 0


def _batches(source: Source) -> Iterator[list[BulkLine]]:
    batch: list[BulkLine] = []
    size = 0
    for line in source:
        if batch and (len(batch) == BATCH or size + line.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += line.size
    if batch:
        yield batch


def _send(client: Client, source: Source, batch: list[BulkLine], stored: int, total: int) -> dict[str, Any]:
    try:
        return client.send_batch([line.job for line in batch])
    except ClientError as error:
        text = _PLACE.sub(lambda match: f"{source.name}, line {batch[int(match[1])].number}: ", str(error))
        message = f"{text} ({_so_far(stored, total, sure=not error.unknown)})"
        raise ClientError(message, error.status, error.problem, unknown=error.unknown) from None


def _so_far(stored: int, total: int, *, sure: bool = True) -> str:
    count = f"{stored:,}" if sure else f"at least {stored:,}"
    return f"{count} of {total:,} jobs are stored; the same command goes on from there"


@contextmanager
def _progress(total: int, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal. Yield the function that advances it."""
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    # Loaded only where it is shown.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("submitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(err=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda jobs: progress.advance(task, jobs)
