"""Test README and tutorial, followed word for word: a wheel, a virtual environment, a cluster, and a killed worker."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskd.dev.servers.ports import free_port
from tests.e2e.fleet import Fleet
from tests.pages import ROOT, Reader, blocks

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "tutorial.md"
PRODUCTION = ROOT / "docs" / "production.md"


@pytest.fixture
def reader(private_folder: Path) -> Iterator[Reader]:
    """Return a reader in an empty folder, with a checkout beside it and a free port."""
    port = free_port()
    (private_folder / "work").mkdir(mode=0o711)
    (private_folder / "taskd").symlink_to(ROOT)
    # taskd uses the packages of the tests: installing them again would take a minute, and the network.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = f'echo {sysconfig.get_path("purelib")} >"$(python -c "{where}")/ours.pth"'
    page_reader = Reader(
        private_folder / "work",
        {"TASKD_SERVER": f"http://localhost:{port}"},
        instead={
            "^python3 -m venv": f"{sys.executable} -m venv",
            r"^pip install '../taskd\[dev\]'$": f"{packages}; pip install -q --no-deps --no-build-isolation ../taskd",
            "^taskd dev": f"taskd dev --port {port}",
        },
    )
    del page_reader.environment["PYTHONPATH"]
    yield page_reader
    page_reader.close()


def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for block in blocks(PAGE):
        reader.follow(block)
    assert reader.type("python -c 'import taskd; print(taskd.__file__)'").startswith(str(reader.folder / ".venv"))
    output = reader.end(r"taskd dev\b")
    assert "started again" in output
    assert "everything is down" in output


def test_the_readme_does_what_it_says(reader: Reader) -> None:
    reader.environment["PYTHONPATH"] = str(ROOT / "src")
    # The targets of make take minutes, so only their existence is checked. `make test` runs these tests, and a test of
    # test_dev.py runs the demo.
    reader.instead = {**reader.instead, "^make ": f"make -n -C {ROOT} "}
    for block in blocks(README):
        reader.follow(block)


def test_the_page_on_production_begins_with_servers_that_are_there(fleet: Fleet, tmp_path: Path) -> None:
    port = free_port()
    addresses = {"HTTP_ADDR": f":{port}", "WORKER_HTTP_ADDR": "", "TASKD_SERVER": f"http://localhost:{port}"}
    instead = {
        "postgresql://localhost/taskd": fleet.dsn,
        r"localhost:6379": fleet.servers["redis_url"],
        r"localhost:2379": fleet.servers["etcd_endpoint"],
    }
    reader = Reader(tmp_path, fleet.environment | addresses, instead)
    (first, *_) = blocks(PRODUCTION)
    try:
        reader.follow(first)
    finally:
        reader.close()
