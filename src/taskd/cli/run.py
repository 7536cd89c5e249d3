"""`taskd run`: runs one task in this process, without servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.submit import read_payload
from taskd.domain import exact

if TYPE_CHECKING:
    from taskd.app import App
    from taskd.app.task import Task
    from taskd.app.testing import Bench, Run
    from taskd.settings import Settings

FAILED = 1


def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="The task's name.")],
    payload: Annotated[
        str, typer.Argument(help="JSON, else a plain string; @FILE reads a file.", metavar="PAYLOAD")
    ] = "{}",
    app: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE[:ATTR]", help="The app with the task. Default: the built-in tasks."),
    ] = None,
    attempt: Annotated[int, typer.Option(min=1, help="The attempt's number.")] = 1,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="JSON", help="The checkpoint that an earlier attempt stored.")
    ] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help="Open the debugger at the error.")] = False,
    as_json: options.JsonOption = False,
) -> int:
    """Run a task here, in the foreground, without servers.

    It runs once: no retries, no timeout. breakpoint() works.

    The result goes to stdout as JSON, log and progress to stderr. Jobs that it submits are only shown. With --json, prints go
    to stderr too. Exit status 1 if it fails.

    Example: taskd run resize '{"url": "https://example.org/a.png", "width": 200}' --app shop.tasks --pdb
    """
    from taskd.runtime import forks  # noqa: PLC0415  --help does without

    settings = options.settings(context, {("worker", "app"): app}, use_dev_cluster=False)
    _log(settings)
    forks.watch()
    name, loaded = _find(settings, task)
    bench = loaded.testing(attempt=attempt, checkpoint=None if checkpoint is None else _checkpoint(checkpoint))
    document = exact.dumps(read_payload(payload)).encode()
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        value, error = _run(name, loaded, bench, loaded.tasks[task], document, settings.worker.max_result_bytes)
    if error is not None:
        return _report(error, debug=pdb)
    output.print_json(exact.loads(value))
    return 0


def _checkpoint(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--checkpoint takes JSON: {error}") from None


def _log(settings: Settings) -> None:
    from taskd.runtime import log  # noqa: PLC0415  --help does without

    log.configure(settings.log)
    logging.getLogger().setLevel(settings.log.level)


def _find(settings: Settings, task: str) -> tuple[str, App]:
    """Return the app that has the task, and its name: the user's, or the one with the tasks that the settings enable.

    Raises typer.BadParameter and ConfigurationError.
    """
    from taskd.app import App  # noqa: PLC0415  as above
    from taskd.domain.errors import ConfigurationError  # noqa: PLC0415
    from taskd.executor import loading  # noqa: PLC0415
    from taskd.settings import TaskSettings  # noqa: PLC0415
    from taskd.worker.pool.protocol import BUILTIN  # noqa: PLC0415

    loading.search_current_folder()
    name = settings.worker.app or BUILTIN
    try:
        app = loading.load(name, TaskSettings())
    except loading.NotLoadable as error:
        raise ConfigurationError(str(error)) from None
    if not isinstance(app, App):
        raise ConfigurationError(f"app {name!r} is not a taskd.App")
    if task in app.tasks:  # the settings of other tasks may be wrong
        return name, app
    enabled = _enabled(settings)
    if task in enabled.tasks:
        return loading.OPTIONAL, enabled
    known = ", ".join(sorted(app.tasks)) or "none"
    hint = "" if settings.worker.app else " (--app names the module of your own tasks)"
    raise typer.BadParameter(f"there is no task {task!r} in the app {name}; it has: {known}{hint}")


def _enabled(settings: Settings) -> App:
    """Return the built-in tasks that the settings enable. Raises ConfigurationError."""
    from taskd.app.builtin.optional import build  # noqa: PLC0415  as above
    from taskd.domain.errors import ConfigurationError  # noqa: PLC0415

    try:
        return build(settings.tasks, settings.worker.max_result_bytes)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _run(
    name: str, app: App, bench: Bench, task: Task[Any, Any], payload: bytes, limit: int
) -> tuple[bytes, BaseException | None]:
    """Run one attempt in this thread, with the app's hooks around it. Return its result as JSON, and its error.

    Raises ConfigurationError if the app does not start.
    """
    import uvloop  # noqa: PLC0415  --help does without

    from taskd.app.testing import Run  # noqa: PLC0415
    from taskd.domain.errors import Fail  # noqa: PLC0415
    from taskd.domain.storable import to_json  # noqa: PLC0415
    from taskd.runtime import forks  # noqa: PLC0415

    record = Run(hear=_progress)
    # The executors' event loop. Python's own may miss a Ctrl-C that comes just before it waits, until something else wakes it.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _started(name, app, runner):
        opened = contextlib.AsyncExitStack()
        try:
            try:
                invocation = runner.run(opened.enter_async_context(bench.prepared(task, payload, record)))
            except Fail as payload_error:  # no user code has run, so a traceback would show nothing
                return b"null", payload_error.with_traceback(None)
            value = runner.run(invocation()) if invocation.asynchronous else invocation()
            forks.leave()
            encode = app.encoder(task.name)
            return to_json(value, limit, encode=encode, strict_keys=encode is None), None
        except KeyboardInterrupt as error:
            forks.leave(error)
            raise
        except BaseException as error:  # noqa: BLE001  every error of the task is reported as its failure
            forks.leave(error)
            return b"null", error
        finally:
            _children(record)
            runner.run(opened.aclose())


@contextlib.contextmanager
def _started(name: str, app: App, runner: asyncio.Runner) -> Iterator[None]:
    """Start the app, and stop it at the end. It is stopped after a failed start too: resources may be open already."""
    try:
        runner.run(_start(name, app))
        yield
    finally:
        runner.run(app.stop())


async def _start(name: str, app: App) -> None:
    """Start the app. Raises ConfigurationError with the same text as a worker's."""
    from taskd.domain.errors import ConfigurationError  # noqa: PLC0415  --help does without
    from taskd.executor import loading  # noqa: PLC0415

    try:
        await loading.start(name, app)
    except loading.NotLoadable as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # Ctrl-C is no failure of the app's
            raise asyncio.CancelledError from None
        raise ConfigurationError(str(error)) from None


def _progress(fraction: float, message: str) -> None:
    output.write_line(f"progress: {fraction:.0%} {message}".rstrip(), err=True)


def _children(record: Run) -> None:
    for child in record.children:
        output.write_line(f"not submitted by `taskd run`: {child.task} {output.brief(child.payload)}", err=True)


def _report(error: BaseException, *, debug: bool) -> int:
    from taskd.domain.errors import Fail, RetryAt, Snooze, Unstorable  # noqa: PLC0415  --help does without
    from taskd.executor.tracebacks import describe  # noqa: PLC0415

    if isinstance(error, Snooze):
        output.write_line(f"snoozed: a worker would run it again after {error.seconds:g} s. {error}".rstrip(), err=True)
    elif isinstance(error, Unstorable):
        output.write_line(f"failed for good: {error}", err=True)
    else:
        bare = isinstance(error, Fail) and error.__traceback__ is None
        output.write_line(f"error: {error}" if bare else describe(error), err=True)
        if isinstance(error, Fail):
            output.write_line("failed for good: a worker would not try it again", err=True)
        elif isinstance(error, RetryAt):
            output.write_line(f"failed: a worker would try it again at {error.when}", err=True)
    if debug and error.__traceback__ is not None:
        import pdb  # noqa: PLC0415  for --pdb alone

        pdb.post_mortem(error.__traceback__)
    return FAILED
