"""The rich console of every view: it prints plain, harmless text, and never markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from taskd.runtime.terminal import clean

#: One character each, since lines are laid out already.
_ASCII = str.maketrans({"…": "~", "─": "-", "━": "-", "╸": "-", "╺": "-"})


class SafeConsole(Console):
    """A console that cleans texts before they are laid out, and segments before they are written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text, cleaned."""
        return super().render_str(clean(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render in segments. Only rich's own segments may control the terminal."""
        plain = not self.encoding.startswith("utf")
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control:
                yield segment
                continue
            text = clean(text)
            yield Segment(text.translate(_ASCII) if plain and not text.isascii() else text, style)


def styled(text: object, style: str = "") -> Text:
    """Return the text in a style, cleaned."""
    return Text(clean(str(text)), style)
