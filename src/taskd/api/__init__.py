"""HTTP: parse, call a seam, render. Every scheduler answers, leader or not.

`build` makes the ASGI application. Whatever a client sends wrongly gets a 4xx as `application/problem+json`; PostgreSQL's
absence is 503 with Retry-After; a 5xx for bad input is a bug.
"""

from __future__ import annotations

from taskd.api.application import Api, build

__all__ = ["Api", "build"]
