"""The soak test (`make soak`): half an hour of half the maximum load with worker restarts, in which nothing may grow."""
