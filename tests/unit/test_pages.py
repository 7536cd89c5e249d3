"""Tests of how pages are followed: the blocks of a page, and when two outputs are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import Reader, blocks, fits

PAGE = """
Text.

```python
# shop/tasks.py
x = 1
```

```console
$ echo one \\
    two
one two
$ false
```

- A list

    ```sh
    # a comment
    echo three
    ```
"""


def test_times_addresses_and_durations_may_differ_and_nothing_else() -> None:
    shown = "taskd is up after 3.9 s\nAPI   http://localhost:8080\nsince 2026-11-27T18:52:40.003214Z"
    assert fits(shown, "taskd is up after 25.1 s\nAPI http://localhost:17000  \nsince 2027-01-01T00:00:00Z\n")
    assert not fits(shown, "taskd is up after 25.1 s\nAPI http://localhost:17000")
    assert not fits("job 1 completed", "job 2 completed")
    assert not fits("job 1 completed", "job 1 completed\nresult: 3")
    assert fits("…\njob 1 … at last\n…", "a\nb\njob 1 completed at last\n")
    assert not fits("…\njob 1 … at last", "job 1 completed\nat last")
    assert fits("", "")


def test_a_page_is_files_and_commands(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text(PAGE)
    program, console, sh = blocks(page)
    assert (program.file, program.line, console.file) == ("shop/tasks.py", 4, None)
    assert console.commands == [("echo one two", "one two\n"), ("false", "")]
    assert sh.commands == [("echo three", None)]


def test_a_reader_keeps_what_was_exported_and_says_what_went_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    reader = Reader(tmp_path)
    page.write_text("```sh\nexport COLOUR=red\n```\n```console\n$ echo $COLOUR\nred\n```\n")
    for block in blocks(page):
        reader.follow(block)
    page.write_text("```console\n$ echo $COLOUR\nblue\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: `echo \$COLOUR` printed\nred"):
        reader.follow(blocks(page)[0])
    page.write_text("```sh\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: `false` failed"):
        reader.follow(blocks(page)[0])
    page.write_text("```text\nx\n```\n")
    with pytest.raises(AssertionError, match="cannot be run"):
        reader.follow(blocks(page)[0])
