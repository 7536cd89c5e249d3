"""Long-run health: half of the maximum load for half an hour, with worker restarts, and nothing may grow. `make soak`."""
