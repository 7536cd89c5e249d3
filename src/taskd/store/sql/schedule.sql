-- Finds one schedule, with the last of its ticks that were decided, newest first.
SELECT name, cron, every, tz, task, queue, priority, max_retries, backoff, timeout, metadata, payload, missed, catch_up, overlap, app,
       revision, anchor, decided_until, clock_timestamp(), created_at, changed_at, paused_at, paused_by,
       (SELECT json_agg(json_build_object('fire_at', f.fire_at, 'fired_at', f.fired_at, 'state', f.state, 'job_id', f.job_id))
        FROM (SELECT * FROM taskd.fires WHERE schedule = %(name)s ORDER BY fire_at DESC LIMIT %(limit)s) f)
FROM taskd.schedules WHERE name = %(name)s
