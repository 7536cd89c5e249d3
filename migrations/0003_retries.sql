-- A job that failed or was cancelled may be tried again as a new job, once: this names the new one.
ALTER TABLE taskd.finished_jobs ADD COLUMN retried_as bigint CHECK (retried_as IS NULL OR status <> 'completed');
