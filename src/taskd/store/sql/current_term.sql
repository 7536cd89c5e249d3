-- Reads the leader row, with the seconds since its last renewal.
SELECT epoch, holder, instance_id, etcd_revision, extract(epoch FROM clock_timestamp() - renewed_at)::float8,
       dispatched, last_dispatch
FROM taskd.leader
