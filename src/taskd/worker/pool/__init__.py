"""The executor processes of a worker: they run user code, and the worker starts, watches, stops, kills and replaces them.

Limits
  A pool is fixed to one app and one number of processes when it starts; only the number of slots may change later. One
  frame of the protocol has at most 64 MiB. Worker and executors are of one version: the protocol is not compatible between
  versions, and nothing outside of this package and `taskd.executor` reads it. A process that a task has moved into a
  session of its own is not killed with its executor.

Model
  `ExecutorPool` (pool) hands orders out, `ProcessSupervisor` (supervisor) keeps a process in each place, and
  `ExecutorProcess` (process) is one process with its socket. The two sides exchange the messages of `protocol`, each in a
  frame. A suspect, which is an attempt of a job that was there when an executor crashed, gets a process of its own.

Guarantees
  The end of each attempt is reported exactly once, and only when its code has certainly stopped: by its End, or by the end
  of its process. The guard, a process beside the worker, kills the executors when the worker's lease runs out, also if the
  worker itself is stopped or swapped out.

Failure handling
  What an executor sends is checked (decoding), because user code can write to the connection. Anything unexpected ends that
  executor, and its attempts count as crashed. A process that ends is replaced; starts that keep failing are tried again
  with growing pauses. The last output of a process that crashed is read from memory that it shares with the worker
  (crash_buffer). A guard that dies is started again and receives the whole state.
"""
