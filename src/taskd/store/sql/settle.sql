-- Records how attempts ended, for those whose claim (id, attempt, session) still holds; the others change nothing.
WITH ended AS MATERIALIZED (
    SELECT c.tid, e.id, e.attempt, e.session, e.status, e.outcome, e.error, e.result, e.delay, e.again_at,
           coalesce(e.failures, 0) AS failures, coalesce(e.crashes, 0) AS crashes, e.noted, e.progress, e.traceback,
           e.line, e.lines, e.said
    FROM json_to_recordset(%(settlements)s::json) AS e (
        id bigint, attempt int, session uuid, status text, outcome text, error text, result json,
        delay float8, again_at timestamptz, failures int, crashes int, noted boolean, progress json, traceback text,
        line int, lines smallint, said json)
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid FROM taskd.jobs j
        WHERE j.id = e.id AND j.attempt = e.attempt AND j.session_id = e.session AND j.status || '' = 'running' FOR UPDATE) c
), gone AS (
    DELETE FROM taskd.jobs j USING ended e WHERE j.ctid = e.tid AND e.status <> 'pending'
    RETURNING j.*, e.status AS final, e.outcome, e.error AS last_error,
              CASE WHEN e.status = 'completed' THEN coalesce(e.result, 'null') END AS result, e.session,
              j.failures + e.failures AS all_failures, j.crashes + e.crashes AS all_crashes,
              e.noted, CASE WHEN e.noted THEN coalesce(
                  e.progress, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = e.id)) END AS progress, e.traceback
), kept AS (
    INSERT INTO taskd.finished_jobs (
        {{history_columns}}, result, progress, traceback)
    SELECT id, final, task, queue, priority, attempt, worker_id, all_failures, all_crashes, losses, max_retries, backoff, timeout,
           created_at, schedule_at, queued_at, started_at, clock_timestamp(), dedupe_key, parent_id, outcome, last_error,
           {{carried_columns}}, result, progress, traceback
    FROM gone
), forgotten AS (
    DELETE FROM taskd.notes n USING gone g WHERE n.job_id = g.id AND g.noted
), said AS (
    INSERT INTO taskd.logs (job_id, attempt, line, lines, body)
    SELECT id, attempt, line, lines, said FROM ended WHERE said IS NOT NULL
), counted AS (
    INSERT INTO taskd.finished_counts AS f (source, status, n)
    SELECT session, final, count(*) FROM gone GROUP BY session, final ORDER BY session, final
    ON CONFLICT (source, status) DO UPDATE SET n = f.n + excluded.n
), again AS (
    UPDATE taskd.jobs j SET
        status = 'pending', session_id = NULL, worker_id = NULL, queued_at = NULL, started_at = NULL,
        failures = j.failures + e.failures, crashes = j.crashes + e.crashes,
        error = CASE WHEN e.outcome = 'snoozed' THEN j.error ELSE coalesce(e.error, j.error) END,
        schedule_at = CASE WHEN e.outcome = 'released' THEN j.schedule_at
                           ELSE coalesce(e.again_at, clock_timestamp() + make_interval(secs => coalesce(e.delay, 0))) END,
        -- A job may snooze for ever: of several snoozes in a row only the last one stays, with their number.
        attempts = CASE WHEN e.outcome = 'snoozed' AND j.attempts -> -1 ->> 'outcome' = 'snoozed' THEN j.attempts - -1
                        ELSE coalesce(j.attempts, '[]') END || jsonb_build_object(
            'attempt', j.attempt, 'worker_id', j.worker_id, 'started_at', j.started_at, 'ended_at', clock_timestamp(),
            'schedule_at', j.schedule_at, 'queued_at', j.queued_at, 'outcome', e.outcome, 'error', e.error, 'traceback', e.traceback,
            'snoozes', CASE WHEN e.outcome = 'snoozed' THEN coalesce((j.attempts -> -1 ->> 'snoozes')::int, 0) + 1 END)
    FROM ended e WHERE j.ctid = e.tid AND e.status = 'pending'
)
SELECT id, attempt FROM ended
