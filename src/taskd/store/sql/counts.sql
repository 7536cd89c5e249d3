-- Counts the cluster's jobs: live ones where they stand, finished ones from the counters.
SELECT (SELECT count(*) FROM taskd.jobs WHERE status = 'pending'),
       (SELECT count(*) FROM taskd.jobs WHERE status = 'queued'),
       (SELECT count(*) FROM taskd.jobs WHERE status = 'running'),
       (SELECT coalesce(sum(n), 0)::bigint FROM taskd.finished_counts WHERE status = 'completed'),
       (SELECT coalesce(sum(n), 0)::bigint FROM taskd.finished_counts WHERE status = 'failed'),
       (SELECT coalesce(sum(n), 0)::bigint FROM taskd.finished_counts WHERE status = 'cancelled'),
       (SELECT sum(dispatched)::bigint FROM taskd.leader), (SELECT max(last_dispatch) FROM taskd.leader)
