-- The lists of a job's columns that several statements share. A new column of a job is added here.

-- name: submitted_types
-- Fields of a submitted job in its JSON document that neither statement needs for more than storing them.
metadata jsonb, payload json, parent_id bigint

-- name: submitted_columns
-- The same fields, in the same order.
metadata, payload, parent_id

-- name: store_submitted
-- Stores the jobs of `timed`, but for those whose dedupe key belongs to another job: the statement ends with that key.
INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, timeout, created_at, schedule_at, dedupe_key,
                        metadata, payload, parent_id)
SELECT t.id, t.task, t.queue, t.priority, t.max_retries, t.retry_backoff, t.timeout, t.created_at, t.due_at, t.dedupe_key,
       t.metadata, coalesce(t.payload, 'null'), t.parent_id  -- JSON's null, which a recordset reads as SQL's

-- name: claimed_columns
-- The columns of a job that its worker gets with the claim.
id, attempt, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, timeout,
metadata, max_retries, backoff, failures, crashes, losses

-- name: carried_columns
-- The columns that a job takes into history unchanged and that no statement computes.
metadata, attempts, payload

-- name: retried_columns
-- The columns that the job of a retry takes from the old one, and that no statement computes.
metadata, payload

-- name: history_columns
-- The columns of a job in history, but for those that only some of its ends fill in.
id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, timeout,
created_at, schedule_at, queued_at, started_at, completed_at, dedupe_key, parent_id, outcome, error,
{{carried_columns}}

-- name: finished_columns
-- The columns of a finished job that the API shows.
id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, completed_at, worker_id,
attempt, max_retries, timeout, error, result, metadata, dedupe_key, parent_id, retried_as

-- name: live_columns
-- The same columns of a live job, in the same order.
id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, NULL::timestamptz, worker_id,
attempt, max_retries, timeout, error, NULL::json, metadata, dedupe_key, parent_id, NULL::bigint
