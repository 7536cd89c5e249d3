"""Run taskd without the protection that TASKD_MUTANT names: `python -m tests.chaos.mutated ARGUMENTS`."""

from __future__ import annotations

import os

from tests.chaos.mutants import MUTANTS

if __name__ == "__main__":
    MUTANTS[os.environ["TASKD_MUTANT"]].apply()
    from taskd.__main__ import main  # the mutant must be applied first

    main()
