"""The executable: global options, the commands, and how failures are shown."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import taskd
from taskd.cli import config, history, moments, options, output, schedule, token, worker
from taskd.cli.cancel import cancel
from taskd.cli.dev import dev
from taskd.cli.doctor import doctor
from taskd.cli.explain import explain
from taskd.cli.listing import list_jobs
from taskd.cli.logs import logs
from taskd.cli.migrate import migrate
from taskd.cli.retry import retry
from taskd.cli.run import run as run_task
from taskd.cli.scheduler import scheduler
from taskd.cli.status import status
from taskd.cli.submit import SubmitCommand, submit
from taskd.cli.torture import torture
from taskd.domain.errors import InvalidJob, TaskdError
from taskd.runtime.terminal import NotText, clean, decoded, path, prepare_streams

FAILED, WRONG, UNKNOWN = 1, 2, 4
INTERRUPTED = 130
#: The HTTP status of a request with invalid fields: they came from the command line.
UNFIT = 422


class LogLevel(StrEnum):
    """The values of --log-level."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    """The values of --log-format."""

    JSON = "JSON"
    TEXT = "TEXT"


app = typer.Typer(
    name="taskd",
    help="A distributed task scheduler. Start with: taskd dev",
    invoke_without_command=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        output.write_line(f"taskd {taskd.__version__}")
        raise typer.Exit


def _require_toml(file: Path) -> None:
    """Raise BadParameter unless the file can be read, also for commands that need no settings."""
    import tomllib  # noqa: PLC0415  for --config alone

    try:
        with Path(path(str(file))).open("rb") as stream:
            tomllib.load(stream)
    except OSError as error:
        raise typer.BadParameter(f"--config: {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also for a file that is not UTF-8
        raise typer.BadParameter(f"--config: {file} is not valid TOML: {error}") from None


@app.callback()
def _global(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file; default ./taskd.toml, then /etc/taskd/taskd.toml", metavar="FILE"),
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(case_sensitive=False, help="Default: INFO")] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(case_sensitive=False, help="Default: TEXT on a terminal, else JSON")
    ] = None,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if config_file is not None:
        _require_toml(config_file)
    if context.invoked_subcommand is None:
        output.write_line(context.get_help())
        raise typer.Exit
    context.obj = options.Global(
        config_file, log_level.value if log_level else None, log_format.value if log_format else None
    )


app.command()(dev)
app.command()(scheduler)
app.add_typer(worker.app, name="worker")
app.command(cls=SubmitCommand)(submit)
app.command("run")(run_task)
app.command()(status)
app.command()(logs)
app.command()(explain)
app.command("list")(list_jobs)
app.command()(cancel)
app.command()(retry)
app.add_typer(config.app, name="config")
app.add_typer(history.app, name="history")
app.add_typer(schedule.app, name="schedule")
app.add_typer(token.app, name="token")
app.command()(migrate)
app.command()(doctor)
app.command()(torture)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A failure is one line on stderr, with its traceback only at DEBUG.

    Output that cannot be written is a failure too. It costs one line only: the interpreter does not report it a second time.
    """
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except OSError:
        _close_stdout()
        return code or FAILED
    return code


def _run(arguments: list[str]) -> int:
    prepare_streams()
    moments.reset()
    try:
        result = app(decoded(arguments), prog_name="taskd", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        return _print_error(f"{error.format_message()} (see: {_help_command(error)})", error.exit_code)
    except NotText as error:
        return _print_error(str(error), WRONG)
    except TaskdError as error:
        return _fail(error, _message(error), arguments, _code(error))
    except BrokenPipeError:
        _close_stdout()
        return FAILED
    except OSError as error:
        return _fail(error, _os_error(error), arguments)
    except Exception as error:  # noqa: BLE001  a user gets one line instead of a traceback
        error = _first_of(error)
        return _fail(error, _unexpected(error), arguments)
    return result if isinstance(result, int) else 0


def _message(error: TaskdError) -> str:
    key = getattr(error, "key", None)
    return f"{error}: add --idempotency-key {key} to the same command" if key is not None else str(error)


def _code(error: TaskdError) -> int:
    if getattr(error, "unknown", False):
        return UNKNOWN
    return WRONG if isinstance(error, InvalidJob) or getattr(error, "status", None) == UNFIT else FAILED


def _first_of(error: Exception) -> Exception:
    """Return the first error inside nested exception groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _unexpected(error: Exception) -> str:
    if isinstance(error, ImportError) and "pq wrapper" in str(error):
        return (
            "libpq, PostgreSQL's client library, is missing: install it (Debian: libpq5), or psycopg[binary] with pip"
        )
    if isinstance(error, UnicodeEncodeError):
        return "a text holds half a character (a lone surrogate), which cannot be sent"
    return f"{type(error).__name__}: {error} (a bug; --log-level DEBUG shows where)"


def _fail(error: BaseException, message: str, arguments: Sequence[str], code: int = FAILED) -> int:
    if _debugging(arguments):
        import traceback  # noqa: PLC0415  only for a failure

        output.write_line(_mask("".join(traceback.format_exception(error))).rstrip(), err=True)
    return _print_error(message, code)


def _debugging(arguments: Sequence[str]) -> bool:
    """Return True if DEBUG was asked for. The arguments are searched by hand because parsing itself may have failed."""
    given = " ".join(arguments).upper().replace("=", " ")
    return "--LOG-LEVEL DEBUG" in given or os.environ.get("LOG_LEVEL", "").upper() == "DEBUG"


def _print_error(message: str, code: int) -> int:
    output.write_line(f"error: {' '.join(clean(_mask(message)).split())}", err=True)
    return code


def _mask(text: str) -> str:
    """Return the text without secrets, if this command has read any."""
    secrets = sys.modules.get("taskd.runtime.secrets")
    return str(secrets.mask(text)) if secrets is not None else text


def _help_command(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'taskd'} --help"


def _os_error(error: OSError) -> str:
    if error.errno == errno.ENOENT and error.filename:
        return f"{error.filename}: no such file"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _close_stdout() -> None:
    """Discard the rest of the output: the interpreter would try to write it once more at its end, and fail as well."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
