"""The scenarios, a module for each kind of fault. Each has `SCENARIOS`, rows of the catalogue."""
