"""Tests of the settings that the workers of `taskd dev` get in addition to file and environment."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from taskd.dev import process_spec
from taskd.domain.errors import ConfigurationError
from taskd.settings import Settings, load
from tests.chaos import shape
from tests.e2e import fleet


@pytest.mark.parametrize(("stop_grace", "grace"), [("2", "5.0"), ("5", "5.0"), ("30", "30.0")])
def test_the_grace_of_a_dev_worker_is_never_less_than_its_stop_grace(
    stop_grace: str, grace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKD_WORKER__GRACE", raising=False)
    file = tmp_path / "own.toml"
    file.write_text(f"[worker]\nstop_grace = {stop_grace}\ngrace = 60\n")
    configured = process_spec.configured_worker(("--log-level", "DEBUG", "--config", str(file)))
    spec = process_spec.worker("worker-1", {}, configured)
    assert spec.places["worker", "grace"] == grace
    load(file=file, environ=process_spec.environment(spec.places, {}))  # its process starts


def test_a_grace_of_the_environment_is_that_of_a_dev_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKD_WORKER__GRACE", "1")
    monkeypatch.setenv("TASKD_WORKER__STOP_GRACE", "7")
    configured = process_spec.configured_worker()
    assert process_spec.worker_grace(configured) == 1
    assert ("worker", "grace") not in process_spec.worker("worker-1", {}, configured).places
    with pytest.raises(ConfigurationError, match=r"worker\.stop_grace \(7 s\)"):
        load()


@pytest.mark.parametrize(
    "timings",
    [process_spec.environment(process_spec.LEADERSHIP, {}), shape.TIMINGS, fleet.TIMINGS],
    ids=["dev", "faults", "tests"],
)
def test_the_short_timings_of_clusters_on_one_machine_fit_together(timings: dict[str, str]) -> None:
    loaded = load(environ=timings)
    assert msgspec.to_builtins(loaded) != msgspec.to_builtins(Settings())
