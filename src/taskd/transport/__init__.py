"""Redis Streams carry doorbells: entries that tell workers "job 17, dispatch 3".

Limits: anything here may vanish or be repeated at any instant. No entry is trusted, and none outlives the decision on its
claim, so there is no visibility timeout.

Model: the leader adds an entry for each dispatch (`ring`). A worker reads entries for its free slots (`fetch`), claims their
jobs in PostgreSQL, and deletes the entries (`decided`). A claim names its dispatch, so an old or repeated entry claims nothing.
`wake` and `tell_cancelled` are messages that may be missed; each has a slower way that finds the same.

Failures: the leader re-offers a job whose entry is lost (`missing`, `incarnation`). Entries that a dead worker left undecided
are adopted by another one (`adopt`). A key of another type costs its own queue only, until an operator deletes it. Every
command has a deadline, and no command is repeated by the library.
"""
