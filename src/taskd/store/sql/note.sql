-- Stores notes of attempts whose claim (id, attempt, session) still holds, and answers which those are.
-- The job's row is locked and not changed: a settle or a reap that waits for it goes on with the row that it has found. Both texts
-- are JSON; one that is missing leaves the stored one.
WITH said AS MATERIALIZED (
    SELECT n.id, n.attempt, n.progress, n.checkpoint
    FROM json_to_recordset(%(notes)s::json) AS n (id bigint, attempt int, session uuid, progress text, checkpoint text)
    CROSS JOIN LATERAL (
        SELECT FROM taskd.jobs j
        WHERE j.id = n.id AND j.attempt = n.attempt AND j.session_id = n.session AND j.status || '' = 'running' FOR SHARE) held
), written AS (
    INSERT INTO taskd.notes AS o (job_id, progress, checkpoint) SELECT id, progress::json, checkpoint::json FROM said
    ON CONFLICT (job_id) DO UPDATE SET progress = coalesce(excluded.progress, o.progress),
                                       checkpoint = coalesce(excluded.checkpoint, o.checkpoint)
)
SELECT id, attempt FROM said
