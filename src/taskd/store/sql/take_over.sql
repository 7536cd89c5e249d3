-- Takes leadership of a shard with its next epoch: by a later election in etcd, or because it was not renewed for long enough.
-- A shard that never had a leader has no row, and its first epoch is 1.
INSERT INTO taskd.leader AS l (shard, shards, epoch, holder, instance_id, etcd_revision, renewed_at)
VALUES (%(shard)s, %(shards)s, 1, %(holder)s, %(instance_id)s, coalesce(%(revision)s::bigint, 0), clock_timestamp())
ON CONFLICT (shard) DO UPDATE SET
    shards = excluded.shards, epoch = l.epoch + 1, holder = excluded.holder, instance_id = excluded.instance_id,
    etcd_revision = coalesce(%(revision)s::bigint, l.etcd_revision), renewed_at = clock_timestamp()
WHERE %(revision)s::bigint > l.etcd_revision
   OR l.renewed_at < clock_timestamp() - make_interval(secs => %(stale_after)s::float8)
RETURNING l.epoch
