"""What an API token may be for."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a token is for. `admin` includes the others; none of the others includes another."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
