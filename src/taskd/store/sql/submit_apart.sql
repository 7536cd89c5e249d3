-- Stores a batch of jobs as submit.sql does, where some have a key that is kept apart by token or queue (own_key, former_key).
WITH input AS MATERIALIZED (
    SELECT nextval('taskd.job_ids') AS id, clock_timestamp() AS created_at, j.*
    FROM ROWS FROM (json_to_recordset(%(jobs)s::json) AS (
        task text, queue text, priority smallint, max_retries smallint, retry_backoff jsonb, timeout float8,
        schedule_at timestamptz, delay float8, dedupe_key text, own_key text, former_key text, {{submitted_types}}
    )) WITH ORDINALITY AS j (
        task, queue, priority, max_retries, retry_backoff, timeout, schedule_at, delay, dedupe_key, own_key, former_key,
        {{submitted_columns}}, place)
), timed AS MATERIALIZED (
    SELECT coalesce(schedule_at, created_at + make_interval(secs => coalesce(delay, 0))) AS due_at, coalesce(own_key, dedupe_key) AS key, input.*
    FROM input
), former AS MATERIALIZED (
    -- A job whose key is from before keys were kept apart: of the same queue, and for an Idempotency-Key the same job.
    SELECT t.place, f.job_id FROM timed t CROSS JOIN LATERAL (
        SELECT k.job_id FROM taskd.dedupe_keys k CROSS JOIN LATERAL (
            SELECT task, queue, priority, max_retries, timeout, payload FROM taskd.jobs WHERE id = k.job_id
            UNION ALL
            SELECT task, queue, priority, max_retries, timeout, payload FROM taskd.finished_jobs WHERE id = k.job_id) j
        WHERE k.key = t.former_key AND j.queue = t.queue AND (t.own_key IS NOT NULL OR (
            (j.task, j.priority, j.max_retries) = (t.task, t.priority, t.max_retries)
            AND j.timeout IS NOT DISTINCT FROM t.timeout AND j.payload::text = coalesce(t.payload, 'null')::text))
        LIMIT 1) f
    WHERE t.former_key IS NOT NULL
), keys AS (
    -- The update changes nothing: it returns the row's owner, also when another transaction committed it a moment ago.
    INSERT INTO taskd.dedupe_keys AS k (key, job_id)
    SELECT DISTINCT ON (key) key, id FROM timed
    WHERE key IS NOT NULL AND place NOT IN (SELECT place FROM former) ORDER BY key, place
    ON CONFLICT (key) DO UPDATE SET key = k.key
    RETURNING k.key, k.job_id
), stored AS (
    {{store_submitted}}
    FROM timed t LEFT JOIN keys ON keys.key = t.key
    WHERE t.key IS NULL OR keys.job_id = t.id
)
SELECT coalesce(former.job_id, keys.job_id, t.id), former.job_id IS NOT NULL OR coalesce(keys.job_id <> t.id, false),
       t.created_at, t.due_at
FROM timed t LEFT JOIN keys ON keys.key = t.key LEFT JOIN former ON former.place = t.place
ORDER BY t.place
