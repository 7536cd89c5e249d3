-- Deletes those of one page of finished jobs that are older than they are kept, with their dedupe keys, if the term still holds.
-- The page is a stretch of ids: jobs come to their ends roughly in that order, so that no index has to tell which are old.
WITH term AS MATERIALIZED (
    SELECT 1 FROM taskd.leader WHERE epoch = %(epoch)s AND holder = %(holder)s FOR SHARE
), page AS MATERIALIZED (
    SELECT id, completed_at < clock_timestamp() - make_interval(secs => %(keep)s) AS old FROM taskd.finished_jobs
    WHERE status = %(status)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
), gone AS (
    DELETE FROM taskd.finished_jobs WHERE id = ANY (ARRAY(SELECT id FROM page WHERE old)) AND EXISTS (SELECT FROM term)
    RETURNING id, dedupe_key
), freed AS (
    DELETE FROM taskd.dedupe_keys k USING gone WHERE k.key = gone.dedupe_key AND k.job_id = gone.id
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM gone), (SELECT count(*) FROM page), (SELECT max(id) FROM page)
