"""Secrets of this process's configuration, kept out of everything that it prints.

Messages of libraries may quote what they were given. So whatever goes to a terminal or a log passes `mask`, which knows the
passwords of the connection strings and the token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from taskd.settings import ClientSettings, Settings

HIDDEN = "***"
#: Shorter secrets would hide half of every sentence.
SHORTEST = 4
#: Common passwords, which are also words of messages: hiding them would protect nothing.
WORDS = frozenset(
    {
        "admin",
        "changeme",
        "default",
        "etcd",
        "localhost",
        "pass",
        "password",
        "postgres",
        "redis",
        "secret",
        "taskd",
        "test",
    }
)
_URL = re.compile(r"://[^/@\s]*?:([^@\s]*)@")
_NAMED = re.compile(r"password\s*=\s*'?([^'\s&]+)")

_known: set[str] = set()


def learn(settings: Settings) -> None:
    """Remember the passwords in these settings, and the client's token."""
    _remember(in_text(settings.postgres.dsn))
    learn_from(settings.worker.transaction_dsn)
    _remember(in_text(settings.redis.url))
    _remember(in_text(settings.etcd.endpoints))
    _remember(in_text(settings.trace.endpoint))
    _remember(in_text(os.environ.get("TASKD_SERVER", "")))
    learn_client(settings.client)


def learn_client(client: ClientSettings) -> None:
    """Remember the client's token."""
    _remember([client.token, os.environ.get("TASKD_TOKEN", "")])


def learn_from(text: str) -> None:
    """Remember the passwords in a URL or connection string."""
    _remember(in_text(text))


def in_text(text: str) -> list[str]:
    """Return the passwords in a URL or connection string."""
    return [*_URL.findall(text), *_NAMED.findall(text)]


def mask(text: str) -> str:
    """Return the text without any learnt secret."""
    for secret in sorted(_known, key=len, reverse=True):  # one may contain another
        text = text.replace(secret, HIDDEN)
    return text


def mask_line(_: Any, __: str, line: Any) -> Any:
    """Mask a rendered log line (a processor of structlog)."""
    return mask(line) if isinstance(line, str) else line


def _remember(secrets: Iterable[str]) -> None:
    for secret in secrets:
        for form in (secret, unquote(secret)):
            if len(form) >= SHORTEST and form not in WORDS:
                _known.add(form)
