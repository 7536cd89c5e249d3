"""Scopes: the rights that an API token may have."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One right of a token. `admin` includes the others; no other scope includes another."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
