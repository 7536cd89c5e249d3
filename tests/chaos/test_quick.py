"""A quick selection of the fault catalogue; `make chaos` runs all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.catalogue import QUICK, select
from tests.chaos.run import run
from tests.chaos.table import complaints

#: Minimum of seconds of load; a scenario whose faults take longer has more.
LOAD = 8.0
#: Factor of the bounds: other tests run beside this one, while the catalogue has the machine to itself.
SHARED = 3.0


@pytest.mark.parametrize("number", QUICK)
def test_nothing_is_lost_or_doubled(number: str, private_folder: Path) -> None:
    (scenario,) = select(number)
    bounds = {name: bound * SHARED for name, bound in scenario.bounds.items()}
    scenario = replace(scenario, shape=replace(scenario.shape, load=LOAD), bounds=bounds)
    row = run(scenario, seed=1, folder=private_folder / "chaos")
    assert row.left_out is None
    assert row.passed, "\n".join(complaints(row))
    assert row.accepted > 0
