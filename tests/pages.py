"""Pages of the documentation, run: programs are written as files, commands are typed into a shell, and what they print is
held against what the page shows."""

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
#: What differs from run to run, and what stands for it when two outputs are compared.
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
#: Seconds until they must have shown what the page does.
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
        """The name of the file that a program is to be, by its first line."""
        found = _FILE.match(self.text) if self.language == "python" else None
        return found[1] if found else None

    @property
    def commands(self) -> list[tuple[str, str | None]]:
        """The commands of a `sh` block, and those of a `console` block with what each prints."""
        if self.language == "sh":
            lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
            return [(line, None) for line in lines if line.strip() and not line.startswith("#")]
        found: list[tuple[str, str | None]] = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
            found.append((command, output))
        return found

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page.name,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            textwrap.dedent(found["text"]),
        )
        for found in _FENCE.finditer(text)
    ]


def normal(output: str) -> list[str]:
    """An output without what differs from run to run."""
    for pattern, stand_in in _VARYING:
        output = re.sub(pattern, stand_in, output)
    return [line.strip() for line in output.splitlines() if line.strip()]


def fits(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed. A line `…` stands for any lines, `…` in a line for any text."""
    pattern = ""
    for line in normal(shown):
        pattern += "(.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in normal(printed))) is not None


@dataclass
class Ready:
    """How to know that a command that stays works."""

    command: str
    said: str


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
    """Somebody who follows pages in a folder, step by step."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    #: What is typed instead of what a page shows, as patterns; ports, above all.
    instead: Mapping[str, str] = field(default_factory=dict)
    #: Of the last command.
    status: int = 0
    _staying: dict[str, tuple[subprocess.Popen[bytes], Path]] = field(default_factory=dict)
    _begun: int = 0

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
        """Do what a block says. Raises AssertionError where something else is printed than it shows."""
        if block.file:
            place = self.folder / block.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, "utf-8")
            return
        assert block.commands, f"{block}: a block of the kind {block.language!r} cannot be run"
        for command, shown in block.commands:
            printed = self.type(command)
            deadline = time.monotonic() + PATIENCE
            # What only looks may be asked again: so does a reader, who is told to wait a little.
            while shown is not None and not fits(shown, printed) and LOOKING.fullmatch(command):
                if time.monotonic() > deadline:
                    break
                printed = self.type(command)
            assert shown is not None or not self.status, f"{block}: `{command}` failed:\n{printed}"
            assert shown is None or fits(shown, printed), f"{block}: `{command}` printed\n{printed}\nand not\n{shown}"

    def type(self, command: str) -> str:
        """Type a command; what it prints until it ends, or until it works if it is one that stays."""
        for pattern, typed in self.instead.items():
            command = re.sub(pattern, typed, command)
        for ready in STAYING:
            if re.match(rf"(\w+=\S* )*({ready.command})", command):
                return self._stay(command, ready)
        kept = self.folder / ".environment"
        done = subprocess.run(
            ["bash", "-c", f'{command}\nstatus=$?; env -0 >"{kept}"; exit $status'],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.status = done.returncode
        self.environment = dict(one.split("=", 1) for one in kept.read_text("utf-8").split("\0") if one)
        return done.stdout

    def end(self, command: str) -> str:
        """Press Ctrl-C where a command stays; all that it has printed."""
        process, output = self._staying.pop(command)
        # Where the tests themselves run in the background, Ctrl-C may be switched off for all that they start.
        for key in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process.send_signal(key)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=40)
                break
        return output.read_text("utf-8", "replace")

    def close(self) -> None:
        """Press Ctrl-C everywhere."""
        for command in list(self._staying)[::-1]:
            self.end(command)

    def _stay(self, command: str, ready: Ready) -> str:
        if ready.command in self._staying:
            self.end(ready.command)
        self._begun += 1
        output = self.folder / f".terminal-{self._begun}"
        with output.open("wb") as into:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.folder,
                env=self.environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=subprocess.STDOUT,
            )
        self._staying[ready.command] = process, output

        def told() -> bool:
            return ready.said in output.read_text("utf-8", "replace") or process.poll() is not None

        wait_until(told, 90)
        printed = output.read_text("utf-8", "replace")
        assert process.poll() is None, f"`{command}` ended: {printed}"
        return printed
