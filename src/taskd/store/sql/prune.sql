-- Deletes the old jobs of one page of finished jobs, with their output and dedupe keys, if the term still holds.
-- The page is a stretch of ids: jobs end roughly in that order, so that no index has to show which are old.
-- Jobs are locked in the order of their ids, as a retry does, and keys in theirs, as a submit does.
WITH term AS MATERIALIZED (
    {{term_fence}}
), page AS MATERIALIZED (
    SELECT id, completed_at < clock_timestamp() - make_interval(secs => %(keep)s) AS old FROM taskd.finished_jobs
    WHERE status = %(status)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
), held AS MATERIALIZED (
    SELECT id, queue, dedupe_key FROM taskd.finished_jobs WHERE id = ANY (ARRAY(SELECT id FROM page WHERE old)) ORDER BY id FOR UPDATE
), gone AS (
    DELETE FROM taskd.finished_jobs WHERE id = ANY (ARRAY(SELECT id FROM held)) AND EXISTS (SELECT FROM term) RETURNING id
), unsaid AS (
    DELETE FROM taskd.logs l USING gone g WHERE l.job_id = g.id
), keys AS MATERIALIZED (
    -- src/taskd/api/idempotency.py makes the second form, for keys that belong to one queue.
    SELECT k.key FROM taskd.dedupe_keys k
    JOIN held ON k.key = ANY (ARRAY[held.dedupe_key, 'idempotency-key: ' || held.queue || ' ' || held.dedupe_key])
             AND held.id = k.job_id
    ORDER BY k.key FOR UPDATE OF k
), freed AS (
    DELETE FROM taskd.dedupe_keys WHERE key = ANY (ARRAY(SELECT key FROM keys)) AND EXISTS (SELECT FROM term)
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM gone), (SELECT count(*) FROM page), (SELECT max(id) FROM page)
