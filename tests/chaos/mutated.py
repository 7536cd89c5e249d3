"""`python -m tests.chaos.mutated ARGUMENTS`: taskd with the protection off that TASKD_MUTANT names."""

from __future__ import annotations

import os

from tests.chaos.mutants import MUTANTS

if __name__ == "__main__":
    MUTANTS[os.environ["TASKD_MUTANT"]].apply()
    from taskd.__main__ import main  # the mutant must be there first

    main()
