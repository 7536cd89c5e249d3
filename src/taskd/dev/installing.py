"""Runs pip with short output: the names of packages as they come, and a line every few seconds while pip is silent.

`make` runs this file by its path, before taskd is installed: it imports nothing but the standard library.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

#: Seconds of silence after which a line shows that pip still runs.
QUIET = 3.0
_STEPS = (
    (re.compile(r"Collecting ([\w.-]+)"), "getting {}"),
    (re.compile(r"(?:Obtaining|Processing) file:"), "getting taskd itself"),
    (re.compile(r"Building \w+ for ([\w.-]+)"), "building {}"),
    (re.compile(r"Installing collected packages: (.+)"), "installing {} packages"),
)
#: Addresses of registries may hold passwords.
_ADDRESS = re.compile(r"\b\w+://[^\s,;)'\"]+")


def step(line: str) -> str | None:
    """Return the progress line for a line of pip's output; None for one without news."""
    for pattern, text in _STEPS:
        if match := pattern.match(line.strip()):
            names = match[1] if pattern.groups else ""
            return text.format(names.count(",") + 1 if "," in names else names)
    return None


def main(arguments: Sequence[str]) -> int:
    """Install, and return pip's exit status. After a failure the end of pip's output is shown, without addresses."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    pip = subprocess.Popen(  # noqa: S603  pip, by this interpreter
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert pip.stdout is not None
    begun, lines = time.monotonic(), []
    for line in _lines(pip.stdout):
        if line is None:
            _show(f"... {time.monotonic() - begun:.0f} s")
            continue
        lines.append(line)
        if (text := step(line)) is not None:
            _show(text)
    status = pip.wait()
    if status != 0:
        for line in lines[-20:]:
            _show(_ADDRESS.sub("(address)", line.rstrip()))
    return status


def _lines(stream: IO[str]) -> Iterator[str | None]:
    """Yield the lines as they come, and None after each few seconds without one."""
    arrived: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            arrived.put(line)
        arrived.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=QUIET)
        except queue.Empty:
            yield None
            continue
        if not line:
            return
        yield line


def _show(text: str) -> None:
    print(f"  {text}", flush=True)  # noqa: T201  the output of this program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
