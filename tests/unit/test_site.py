"""Tests of the documentation as a site: it builds, it fetches nothing, and every public name is in it."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import taskd

ROOT = Path(__file__).parents[2]
#: Parameters that are a time: their documentation must name the unit.
TIMES = frozenset({"timeout", "delay", "wait", "seconds", "every"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def public() -> dict[str, Any]:
    """Return everything that a user may call, by its name: the exports of `taskd` and their methods."""
    names: dict[str, Any] = {f"taskd.{name}": getattr(taskd, name) for name in taskd.__all__ if name != "__version__"}
    for name, value in list(names.items()):
        for kind in inspect.getmro(value) if isinstance(value, type) else ():
            if kind.__module__.startswith("taskd"):
                members = {key: value for key, value in vars(kind).items() if not key.startswith("_")}
                methods = {
                    key: value for key, value in members.items() if callable(value) or isinstance(value, property)
                }
                names = {f"{name}.{key}": value for key, value in methods.items()} | names
    return names


def described(value: Any) -> str:
    """Return a value's own docstring. One that another library wrote does not count."""
    text: str = (value.fget if isinstance(value, property) else value).__doc__ or ""
    return text


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes()
    listed = zlib.decompress(inventory[inventory.index(b"zlib") :].partition(b"\n")[2]).decode()
    named = {line.split()[0] for line in listed.splitlines()}
    missing = sorted(public().keys() - named)
    assert not missing, f"{missing}: give each a block ::: in docs/reference/"


def test_every_public_name_has_a_docstring_that_names_units() -> None:
    silent = [name for name, value in public().items() if len(described(value)) < 20]
    assert not silent
    unclear = []
    for name, value in public().items():
        owner = public().get(name.rpartition(".")[0])
        timed = TIMES & inspect.signature(value).parameters.keys() if inspect.isfunction(value) else set()
        if timed and "second" not in described(value) + (described(owner) if owner else ""):
            unclear.append(name)
    twins = {
        name for name in unclear if f"As `{name.rpartition('.')[2].removesuffix('_sync')}`" in described(public()[name])
    }
    assert set(unclear) == twins, "a time without its unit"


def test_reading_the_site_fetches_nothing(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?(?:https?:)?//|<link[^>]*\bhref=\"?(?:https?:)?//[^>]*>",
        re.IGNORECASE,
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert [page.name for page in pages if loads.search(page.read_text("utf-8"))] == []


def test_no_page_shows_its_own_markup(site: Path) -> None:
    """Lists, tables and code that the viewer of a repository understands and the site does not."""
    marks = re.compile(r"<p>[^<]*(?:```|\n[-*] |^\| |\n\| )", re.MULTILINE)
    assert {
        page.name: marks.findall(page.read_text("utf-8"))
        for page in site.rglob("*.html")
        if marks.search(page.read_text("utf-8"))
    } == {}
