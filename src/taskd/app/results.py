"""A task's result: to JSON in the worker, and back to the value that the task's annotation promises."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import reprlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from taskd.app.alike import faithful
from taskd.app.annotations import Unreadable, annotation
from taskd.app.values import decoded, encoded, native, one_way
from taskd.domain.storable import to_json

Encoder = Callable[[Any], bytes]


class Results:
    """Writes and reads one task's results. The annotation is read as those of arguments are."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises TypeError for an annotation whose values cannot travel as JSON."""
        self._task = task
        self._function = function
        with contextlib.suppress(Unreadable):  # it may name what is defined later: an app that starts prepares again
            self.prepare()

    def read(self, value: Any) -> Any:
        """Return the result for its decoded JSON. Raises TypeError, naming the place, where the annotation disagrees."""
        try:
            return self._made(value)
        except msgspec.ValidationError as error:
            raise TypeError(f"the result does not fit the annotation of the task {self._task!r}: {error}") from None

    def travelled(self, value: Any) -> Any:
        """Return the result as a handle would read it. Raises Unstorable for one that a worker would not store."""
        return self.read(json.loads(to_json(value, sys.maxsize, encode=self.encoder, strict_keys=self.encoder is None)))

    def prepare(self) -> None:
        """Read the annotation. Raises TypeError if it cannot be read."""
        self._type  # noqa: B018 - it is cached

    @functools.cached_property
    def encoder(self) -> Encoder | None:
        """Return the encoder of results; None where the annotation has only JSON's own types, which need no help."""
        return None if native(self._type) else self._write

    def _write(self, value: Any) -> bytes:
        """Return the result as JSON that is read back as what it is. Raises TypeError or ValueError, with the reason."""
        text = msgspec.json.encode(value, enc_hook=encoded)
        try:
            read = self._decoder.decode(text)
        except msgspec.ValidationError:
            read = self._made_after_all(text)
        if not faithful(value, read):
            raise TypeError(
                f"{reprlib.repr(value)} would be read as {reprlib.repr(read)}; an annotation with its type may help"
            )
        return text

    def _made_after_all(self, text: bytes) -> Any:
        """Return what `read` makes of JSON that the decoder refuses. Raises TypeError, with the reason."""
        try:
            return self._made(msgspec.json.decode(text))
        except msgspec.ValidationError as error:
            raise TypeError(f"it does not fit the annotation of the task: {error}") from None

    @functools.cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self._type, dec_hook=decoded)

    def _made(self, value: Any) -> Any:
        """Return what the annotation makes of decoded JSON. Raises msgspec.ValidationError."""
        try:
            return msgspec.convert(value, self._type, str_keys=True, dec_hook=decoded)
        except msgspec.ValidationError:
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(_numbers(value), self._type, str_keys=True, dec_hook=decoded)
            raise

    @functools.cached_property
    def _type(self) -> Any:
        found = inspect.signature(self._function).return_annotation
        kind = annotation(self._task, self._function, "return", found)
        if (reason := one_way(kind)) is not None:
            raise TypeError(f"task {self._task!r}: no result can be read back ({reason}): give both sides one alias")
        return kind


def _numbers(value: Any) -> Any:
    """Return decoded JSON with 1 and 0 in place of true and false: type checkers take a bool where an int is promised."""
    match value:
        case bool():
            return int(value)
        case list():
            return [_numbers(item) for item in value]
        case dict():
            return {key: _numbers(item) for key, item in value.items()}
        case _:
            return value
