-- Stores a batch of jobs, all or none, and answers each with its own id or the id of the job that has its dedupe_key.
WITH input AS MATERIALIZED (
    SELECT nextval('taskd.job_ids') AS id, clock_timestamp() AS created_at, j.*
    FROM ROWS FROM (json_to_recordset(%(jobs)s::json) AS (
        task text, queue text, priority smallint, max_retries smallint, retry_backoff jsonb, timeout float8,
        schedule_at timestamptz, delay float8, dedupe_key text, {{submitted_types}}
    )) WITH ORDINALITY AS j (
        task, queue, priority, max_retries, retry_backoff, timeout, schedule_at, delay, dedupe_key, {{submitted_columns}}, place)
), timed AS MATERIALIZED (
    SELECT coalesce(schedule_at, created_at + make_interval(secs => coalesce(delay, 0))) AS due_at, input.* FROM input
), keys AS (
    -- The update changes nothing: it returns the row's owner, also when another transaction committed it a moment ago.
    INSERT INTO taskd.dedupe_keys AS k (key, job_id)
    SELECT DISTINCT ON (dedupe_key) dedupe_key, id FROM timed WHERE dedupe_key IS NOT NULL ORDER BY dedupe_key, place
    ON CONFLICT (key) DO UPDATE SET key = k.key
    RETURNING k.key, k.job_id
), stored AS (
    {{store_submitted}}
    FROM timed t LEFT JOIN keys ON keys.key = t.dedupe_key
    WHERE t.dedupe_key IS NULL OR keys.job_id = t.id
)
SELECT coalesce(keys.job_id, t.id), coalesce(keys.job_id <> t.id, false), t.created_at, t.due_at
FROM timed t LEFT JOIN keys ON keys.key = t.dedupe_key
ORDER BY t.place
