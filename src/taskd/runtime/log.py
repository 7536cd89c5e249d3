"""Logs to stderr, as JSON or text, with the context that each process and attempt binds."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, TextIO

import structlog

from taskd.runtime.secrets import mask_line
from taskd.runtime.stdio import Steady
from taskd.runtime.terminal import clean, clean_line
from taskd.settings import LogSettings

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


#: Makes a logger. In an executor not by structlog's own configuration, which the app may change.
_make: Callable[[], Any] = structlog.get_logger


def configure(settings: LogSettings, *, tap: Any = None, **context: Any) -> None:
    """Set up this process's logs; `context` (role, instance) is on every line. `tap` is a processor that hears each of them.

    With a tap, what the app makes of structlog's configuration does not concern taskd's logger.
    """
    global _make  # noqa: PLW0603  a process has one log
    text = settings.format == "TEXT" or (settings.format == "" and sys.stderr.isatty())
    renderer = _unfailing(_renderer(text=text))
    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        *([tap] if tap is not None else []),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if text else [structlog.processors.format_exc_info]),
        renderer,
        mask_line,
    ]
    wrapper = structlog.make_filtering_bound_logger(LEVELS[settings.level])
    # A line is one write with its newline: a worker and its executors share a stderr, and lines must not mix.
    factory = structlog.WriteLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=processors, wrapper_class=wrapper, logger_factory=factory, cache_logger_on_first_use=False
    )
    if tap is not None:
        _make = partial(structlog.wrap_logger, factory(), processors=processors.copy(), wrapper_class=wrapper)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)
    if isinstance(sys.stderr, Steady):
        sys.stderr.sink.notice = partial(_notice, renderer, context)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")


def _renderer(*, text: bool) -> Any:
    if not text:
        return structlog.processors.JSONRenderer()
    # A plain traceback: the pretty one shows local variables, in which secrets and payloads are.
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    show = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback)
    return lambda logger, name, event: show(logger, name, _clean(event))


def _unfailing(render: Any) -> Any:
    """The renderer, for which a value that cannot be shown is no error: the line comes without such values."""

    def rendered(logger: Any, name: str, event: Any) -> Any:
        try:
            return render(logger, name, dict(event))
        except Exception as error:  # noqa: BLE001  the values' own code may raise anything
            shown = {key: value for key, value in event.items() if isinstance(value, str | int | float)}
            return render(logger, name, {**shown, "not_shown": f"values that raised {type(error).__name__}"})

    return rendered


def _notice(render: Any, context: dict[str, Any], lines: int) -> bytes:
    """The line that says how many are missing before it."""
    event = {"event": "lines of the log were lost before this one", "lines": lines, **context, "level": "warning"}
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "warning", event)
    return f"{render(None, 'warning', stamped)}\n".encode(errors="backslashreplace")


def _clean(entry: MutableMapping[str, Any]) -> dict[str, Any]:
    """Escape what would steer a terminal. Names and values may come from tasks and clients."""
    return {
        clean_line(name): value if name == "exc_info" else clean(value if isinstance(value, str) else repr(value))
        for name, value in entry.items()
    }


def _traceback(out: TextIO, error: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(clean(text.getvalue()))


def set_level(level: str) -> None:
    """Log at this level from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


def logger() -> Any:
    """The process's logger: `logger().info("job completed", job=17)`."""
    return _make()
