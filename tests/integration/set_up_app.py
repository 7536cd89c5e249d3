"""An app that configures logging and the standard streams during its import, as Django and older programs do."""

from __future__ import annotations

import io
import sys

from tests.integration.executor_tasks import app, set_up

__all__ = ["app"]

set_up("dictConfig")
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
