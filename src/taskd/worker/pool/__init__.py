"""The pool of a worker's executors: their processes, their protocol, and the guard that ends them in time."""
