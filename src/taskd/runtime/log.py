"""Logs to stderr, as JSON or text, with the context that each process and attempt binds."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from taskd.runtime.secrets import mask_line
from taskd.runtime.terminal import clean, clean_line
from taskd.settings import Log

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


def configure(settings: Log, *, tap: Any = None, **context: Any) -> None:
    """Set up this process's logs; `context` (role, instance) is on every line. `tap` is a processor that hears each of them."""
    text = settings.format == "TEXT" or (settings.format == "" and sys.stderr.isatty())
    # A plain traceback: the pretty one shows local variables, in which secrets and payloads are.
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *([tap] if tap is not None else []),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_clean] if text else [structlog.processors.format_exc_info]),
            renderer,
            mask_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        # A line is one write with its newline: a worker and its executors share a stderr, and lines must not mix.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")


def _clean(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what would steer a terminal. Names and values may come from tasks and clients."""
    plain = {
        clean_line(name): value if name == "exc_info" else clean(value if isinstance(value, str) else repr(value))
        for name, value in entry.items()
    }
    entry.clear()
    entry.update(plain)
    return entry


def _traceback(out: TextIO, error: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(clean(text.getvalue()))


def set_level(level: str) -> None:
    """Log at this level from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


def logger() -> Any:
    """The process's logger: `logger().info("job completed", job=17)`."""
    return structlog.get_logger()
