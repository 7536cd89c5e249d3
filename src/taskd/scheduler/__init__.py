"""A scheduler: answers the API always, and while it leads, dispatches, rings again, and reaps.

Leadership is a value, a Term, handed to every duty. When it is over, the TaskGroup of the duties ends. etcd's election makes
failover quick; PostgreSQL's epoch makes it safe.
"""
