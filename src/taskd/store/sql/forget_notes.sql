-- Deletes the notes of jobs that are no longer live, if the term still holds.
-- The end of a job deletes its note, except for one that was written while that end waited for the job's row.
WITH term AS MATERIALIZED (
    {{term_fence}}
)
DELETE FROM taskd.notes n
WHERE NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.id = n.job_id) AND EXISTS (SELECT FROM term)
