-- A job that failed or was cancelled may be tried again as a new job, once: this names the new one. (No CHECK: it would read all
-- of history under a lock that nobody passes.)
ALTER TABLE taskd.finished_jobs ADD COLUMN retried_as bigint;
