"""Results of tasks: encoded to JSON in the worker, and decoded by the annotation of the task's function."""

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

from taskd.app.annotations import UnreadableAnnotation, checkable
from taskd.app.equality import faithful
from taskd.app.values import decoded, encoded, native, one_way
from taskd.domain.storable import to_json

Encoder = Callable[[Any], bytes]


class ResultCodec:
    """Encodes and decodes the results of one task. Its annotation is read when those of the arguments are."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises TypeError for an annotation whose values cannot travel as JSON."""
        self._task = task
        self._function = function
        with contextlib.suppress(UnreadableAnnotation):  # of a later definition: the start of the app prepares again
            self.prepare()

    def read(self, value: Any) -> Any:
        """Return the result for its decoded JSON. Raises TypeError, naming the place, if it does not fit the annotation."""
        try:
            return self._converted(value)
        except msgspec.ValidationError as error:
            raise TypeError(f"the result does not fit the annotation of the task {self._task!r}: {error}") from None

    def travelled(self, value: Any) -> Any:
        """Return the result as a handle would read it. Raises Unstorable for a result that a worker would not store."""
        return self.read(json.loads(to_json(value, sys.maxsize, encode=self.encoder, strict_keys=self.encoder is None)))

    def prepare(self) -> None:
        """Read the annotation. Raises TypeError if it cannot be read."""
        self._type  # noqa: B018 - it is cached

    @functools.cached_property
    def encoder(self) -> Encoder | None:
        """Return the encoder of results; None if the annotation has only JSON's own types."""
        return None if native(self._type) else self._write

    def _write(self, value: Any) -> bytes:
        """Return the result as JSON that is read back as the same value. Raises TypeError or ValueError, with the reason."""
        text = msgspec.json.encode(value, enc_hook=encoded)
        try:
            read = self._decoder.decode(text)
        except msgspec.ValidationError:
            read = self._read_leniently(text)
        if not faithful(value, read):
            raise TypeError(
                f"{reprlib.repr(value)} would be read as {reprlib.repr(read)}; an annotation with its type may help"
            )
        return text

    def _read_leniently(self, text: bytes) -> Any:
        """Return the value that `read` makes of JSON which the decoder refuses. Raises TypeError, with the reason."""
        try:
            return self._converted(msgspec.json.decode(text))
        except msgspec.ValidationError as error:
            raise TypeError(f"it does not fit the annotation of the task: {error}") from None

    @functools.cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self._type, dec_hook=decoded)

    def _converted(self, value: Any) -> Any:
        """Return decoded JSON as the type of the annotation. Raises msgspec.ValidationError."""
        try:
            return msgspec.convert(value, self._type, str_keys=True, dec_hook=decoded)
        except msgspec.ValidationError:
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(_numbers(value), self._type, str_keys=True, dec_hook=decoded)
            raise

    @functools.cached_property
    def _type(self) -> Any:
        annotation = inspect.signature(self._function).return_annotation
        kind = checkable(self._task, self._function, "return", annotation)
        if (reason := one_way(kind)) is not None:
            raise TypeError(f"task {self._task!r}: no result can be read back ({reason}): give both sides one alias")
        return kind


def _numbers(value: Any) -> Any:
    """Return decoded JSON with 1 and 0 in place of true and false: type checkers accept a bool for an int."""
    match value:
        case bool():
            return int(value)
        case list():
            return [_numbers(item) for item in value]
        case dict():
            return {key: _numbers(item) for key, item in value.items()}
        case _:
            return value
