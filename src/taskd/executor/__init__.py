"""The executor: the child process of a worker in which tasks run."""
