-- Finds jobs of a shard that were queued some time ago and not claimed, oldest first.
SELECT id, dispatch_seq, queue, priority FROM taskd.jobs
WHERE status = 'queued' AND queued_at < clock_timestamp() - make_interval(secs => %(after)s::float8)
  AND taskd.shard_of(queue, %(shards)s) = %(shard)s
ORDER BY queued_at, id LIMIT %(limit)s OFFSET %(skip)s
