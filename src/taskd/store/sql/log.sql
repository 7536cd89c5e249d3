-- Stores the output of attempts whose claim (id, attempt, session) still holds, and answers which those are.
-- The last output of an attempt is stored, too, if its job was cancelled or completed by its own transaction meanwhile. The job's row
-- is only read: no write here can interfere with a move of the job, and a claim's number belongs to one claim for ever. Chunks of the
-- last part make way for newer ones.
WITH said AS MATERIALIZED (
    SELECT a.id, a.attempt, a.chunks, a.first, a.wanted
    FROM json_to_recordset(%(outputs)s::json) AS a (id bigint, attempt int, session uuid, chunks json, first int, wanted int)
    WHERE EXISTS (
            SELECT FROM taskd.jobs j
            WHERE j.id = a.id AND j.attempt = a.attempt AND j.session_id = a.session AND j.status || '' = 'running' OFFSET 0)
       OR EXISTS (
            SELECT FROM taskd.finished_jobs f WHERE f.id = a.id AND f.attempt = a.attempt AND f.outcome IN ('cancelled', 'completed') OFFSET 0)
), written AS (
    INSERT INTO taskd.logs (job_id, attempt, line, lines, body)
    SELECT s.id, s.attempt, c.line, c.lines, c.body
    FROM said s CROSS JOIN LATERAL json_to_recordset(s.chunks) AS c (line int, lines smallint, body json)
    ON CONFLICT DO NOTHING  -- an earlier try stored it, whose answer was lost
), made_way AS (
    DELETE FROM taskd.logs l USING said s
    WHERE s.wanted > s.first AND l.job_id = s.id AND l.attempt = s.attempt AND l.line >= s.first AND l.line < s.wanted
)
SELECT id, attempt FROM said
