-- Deletes those of one page of jobs' output whose job is neither live nor in history, if the term still holds.
-- A job that is deleted takes its output with it, except for output that arrives at that moment.
WITH term AS MATERIALIZED (
    {{term_fence}}
), page AS MATERIALIZED (
    SELECT DISTINCT job_id FROM (
        SELECT job_id FROM taskd.logs WHERE job_id > %(after)s ORDER BY job_id LIMIT %(limit)s) rows
), gone AS (
    DELETE FROM taskd.logs l USING page p
    WHERE l.job_id = p.job_id AND EXISTS (SELECT FROM term)
      AND NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.id = p.job_id)
      AND NOT EXISTS (SELECT FROM taskd.finished_jobs f WHERE f.id = p.job_id)
)
SELECT (SELECT count(*) FROM term), (SELECT max(job_id) FROM page)
