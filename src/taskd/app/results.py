"""From the JSON of a job's result to the value that its task's annotation promises."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from taskd.app.annotations import annotation
from taskd.app.models import decoded


class Results:
    """How one task's results are read. The annotation is read as those of arguments are."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self._task = task
        self._function = function

    def read(self, value: Any) -> Any:
        """The result for its decoded JSON. Raises TypeError, naming the place, where the annotation says something else."""
        try:
            return msgspec.convert(value, self._type, str_keys=True, dec_hook=decoded)
        except msgspec.ValidationError as error:
            raise TypeError(f"the result does not fit the annotation of the task {self._task!r}: {error}") from None

    def prepare(self) -> None:
        """Read the annotation. Raises TypeError if it cannot be read."""
        self._type  # noqa: B018 - it is cached

    @functools.cached_property
    def _type(self) -> Any:
        found = inspect.signature(self._function).return_annotation
        return annotation(self._task, self._function, "return", found)
