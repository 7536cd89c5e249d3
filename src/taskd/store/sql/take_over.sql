-- Takes leadership with the next epoch: by a later election in etcd, or because nobody has renewed it for long enough.
UPDATE taskd.leader SET
    epoch = epoch + 1, holder = %(holder)s, instance_id = %(instance_id)s,
    etcd_revision = coalesce(%(revision)s::bigint, etcd_revision), renewed_at = clock_timestamp()
WHERE %(revision)s::bigint > etcd_revision
   OR renewed_at < clock_timestamp() - make_interval(secs => %(stale_after)s::float8)
RETURNING epoch
