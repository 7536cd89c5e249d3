"""Tests that all output of the command line passes one module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import taskd

CLI = Path(taskd.__file__).parent / "cli"
#: Files that may write: the module itself.
ALLOWED = {"output.py"}


def _writes(tree: ast.AST) -> list[str]:
    """Return the calls that write to standard output or error, past the module."""
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    direct = ("print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write")
    return [call for call in calls if call in direct or call in ("Console", "rich.print")]


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: file.name)
def test_no_command_writes_past_the_module(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    assert file.name in ALLOWED or _writes(tree) == []


def test_such_a_write_would_be_found() -> None:
    assert _writes(ast.parse("typer.echo('x')\nprint('x')\nrich.console.Console()\nConsole()")) == [
        "typer.echo",
        "print",
        "Console",
    ]
