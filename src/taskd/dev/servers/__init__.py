"""The three servers of an embedded cluster: PostgreSQL, Redis and etcd."""
