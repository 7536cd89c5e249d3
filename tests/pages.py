"""Pages of the documentation that tests follow.

Programs are written as files, commands are typed into a shell, and their output is compared with what the page shows.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import wait_until

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"# ([\w/]+\.py)\n")
#: Patterns of what differs from run to run, and their replacements for comparisons.
_VARYING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"(127\.0\.0\.1|localhost):\d+", "<address>"),
    (r"\b\d+(\.\d+)? ?(ms|s|seconds)\b", "<duration>"),
    (r"\d+ migrations", "<n> migrations"),
    (r"taskd_\w{20,}", "<token>"),
    (r"\b[0-9a-f]{12,}\b", "<id>"),
    (r"\b[\w.-]+-\d{3,}\b", "<worker>"),
    (r"[ \t]+", " "),
    (r" ?[─━]+ ?", "─"),
)

#: Commands that change nothing, or nothing more when they run again.
LOOKING = re.compile(
    r"taskd (status|list|schedule (list|show|next))\b.*|curl -s \S+ -H \S+ \S+|curl -s \S+|python (rush|flood)\.py"
)
#: Seconds within which such a command must print what the page shows.
PATIENCE = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Name of a program's file, from its first line. None for other blocks."""
        match = _FILE.match(self.text) if self.language == "python" else None
        return match[1] if match else None

    @property
    def commands(self) -> list[tuple[str, str | None]]:
        """The commands of a `sh` block, and those of a `console` block with what each prints."""
        if self.language == "sh":
            lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
            return [(line, None) for line in lines if line.strip() and not line.startswith("#")]
        commands: list[tuple[str, str | None]] = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
            commands.append((command, output))
        return commands

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page.name,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            textwrap.dedent(match["text"]),
        )
        for match in _FENCE.finditer(text)
    ]


def normal(output: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, stand_in in _VARYING:
        output = re.sub(pattern, stand_in, output)
    return [line.strip() for line in output.splitlines() if line.strip()]


def fits(shown: str, printed: str) -> bool:
    """Return True if a page shows what was printed. A line `…` stands for any lines, `…` in a line for any text."""
    pattern = ""
    for line in normal(shown):
        pattern += "(.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in normal(printed))) is not None


@dataclass
class Ready:
    """A command that stays, and the text that it prints once it works."""

    command: str
    text: str


#: Commands that stay until Ctrl-C.
STAYING = (
    Ready(r"taskd dev\b", "Ctrl-C ends all of it"),
    Ready(r"taskd scheduler\b", "leading"),
    Ready(r"taskd worker --", "working"),
    Ready(r"fastapi run|uvicorn ", "Application startup complete"),
    Ready(r"python manage.py runserver", "Quit the server"),
)


@dataclass
class Reader:
    """A reader who follows pages in a folder, step by step."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    #: Patterns in commands, and what is typed instead: other ports above all.
    instead: Mapping[str, str] = field(default_factory=dict)
    #: Exit status of the last command.
    status: int = 0
    _staying: dict[str, tuple[subprocess.Popen[bytes], Path]] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("TASKD_", "POSTGRES_", "REDIS_", "ETCD_"))
        }
        inherited.pop("PYTHONPATH", None)
        inherited.pop("PYTHONWARNINGS", None)  # a reader's pip and pytest may warn of themselves
        scripts = sysconfig.get_path("scripts")
        here = {"PATH": f"{scripts}{os.pathsep}{inherited['PATH']}", "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}
        self.environment = inherited | self.environment | here

    def follow(self, block: Block) -> None:
        """Write a block's file, or type its commands. Raises AssertionError if they print something else than it shows."""
        if block.file:
            file = self.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, "utf-8")
            return
        assert block.commands, f"{block}: a block of the kind {block.language!r} cannot be run"
        for command, shown in block.commands:
            printed = self.type(command)
            deadline = time.monotonic() + PATIENCE
            # A command that only reads may run again: some pages ask their reader to wait a little.
            while shown is not None and not fits(shown, printed) and LOOKING.fullmatch(command):
                if time.monotonic() > deadline:
                    break
                printed = self.type(command)
            assert shown is not None or not self.status, f"{block}: `{command}` failed:\n{printed}"
            assert shown is None or fits(shown, printed), f"{block}: `{command}` printed\n{printed}\nand not\n{shown}"

    def type(self, command: str) -> str:
        """Type a command. Returns its output up to its end, or until it works if it is one that stays."""
        for pattern, typed in self.instead.items():
            command = re.sub(pattern, typed, command)
        for ready in STAYING:
            if re.match(rf"(\w+=\S* )*({ready.command})", command):
                return self._stay(command, ready)
        variables = self.folder / ".environment"
        process = subprocess.run(
            ["bash", "-c", f'{command}\nstatus=$?; env -0 >"{variables}"; exit $status'],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.status = process.returncode
        self.environment = dict(
            variable.split("=", 1) for variable in variables.read_text("utf-8").split("\0") if variable
        )
        return process.stdout

    def end(self, command: str) -> str:
        """Press Ctrl-C on a command that stays. Returns everything that it printed."""
        process, output = self._staying.pop(command)
        # Processes that are started from the background may ignore Ctrl-C.
        for key in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process.send_signal(key)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=40)
                break
        return output.read_text("utf-8", "replace")

    def close(self) -> None:
        """Press Ctrl-C on every command that stays."""
        for command in list(self._staying)[::-1]:
            self.end(command)

    def _stay(self, command: str, ready: Ready) -> str:
        if ready.command in self._staying:
            self.end(ready.command)
        self._started += 1
        output = self.folder / f".terminal-{self._started}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.folder,
                env=self.environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._staying[ready.command] = process, output

        def works_or_ended() -> bool:
            return ready.text in output.read_text("utf-8", "replace") or process.poll() is not None

        wait_until(works_or_ended, 90)
        printed = output.read_text("utf-8", "replace")
        assert process.poll() is None, f"`{command}` ended: {printed}"
        return printed
