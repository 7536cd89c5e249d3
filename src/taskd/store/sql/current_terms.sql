-- Reads the leader rows, with the seconds since their last renewals.
-- Epochs are subtracted: before version 17 PostgreSQL refuses to subtract the infinity that stands for never.
SELECT shard, epoch, holder, instance_id, etcd_revision,
       (extract(epoch FROM clock_timestamp()) - extract(epoch FROM renewed_at))::float8, dispatched, last_dispatch
FROM taskd.leader ORDER BY shard
