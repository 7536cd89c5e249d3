"""The executor: the child process of a worker in which tasks run. User code may do its worst here, and only here.

Limits
  A plain function in a thread is stopped by an exception at its next Python instruction: one that waits in native code
  does not stop, and the worker kills the process. Functions that an attempt has given to further threads cannot be
  stopped; they may run on after its end. A task started in a context of its own, and output written directly to a file
  descriptor, belong to no attempt. Attempts of one process share its memory, current folder and file descriptors.

Model
  `main` connects to the worker and loads the app (loading). `Runner` begins and stops attempts: async ones on the event
  loop, plain ones in threads. Each has a `TaskScope` (the asyncio tasks, threads and processes that it started), a
  `WorkerLink` for its requests, and an `OutputBuffer` for the lines that it prints and logs. The worker's messages and the
  ends of attempts travel in batches, by the protocol in `taskd.worker.pool.protocol`.

Guarantees
  The end of each attempt is sent once, when its coroutine or function and all asyncio tasks that it started have stopped.
  Output is attributed to the attempt in whose context it was written. An executor never outlives its worker: it dies when
  the connection ends, and by the kernel's signal on Linux.

Failure handling
  Whatever a task raises ends that attempt only, also SystemExit. The processes of a stopped attempt are ended with it. The
  current folder and the standard streams are put back. When ended attempts occupy too many threads or file descriptors,
  the executor asks the worker for a successor, and exits once its attempts have ended.
"""
