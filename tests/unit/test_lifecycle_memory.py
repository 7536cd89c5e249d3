"""Test that a process gives back the memory of large requests."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Large blocks between small ones that stay, after a larger block was freed: that raises glibc's limit, if it may rise.
CODE = """
from pathlib import Path

from taskd.runtime.lifecycle import run

MB = 1024 * 1024


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


async def main() -> int:
    size = 8 * MB
    bytearray(20 * MB)
    before, large, small = resident(), [], []
    for _ in range(20):
        large.append(b"x" * size)
        small.append(b"x" * (size // 80))
    taken = resident() - before
    large.clear()
    print(taken, resident() - before)
    return 0


run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such limit")
def test_memory_of_large_blocks_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60)
    taken, kept = map(int, done.stdout.split())
    assert taken >= 160
    assert kept < 40
