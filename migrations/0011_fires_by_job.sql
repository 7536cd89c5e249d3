-- A retry by hand looks for the tick that made its job. By the job and not by its metadata, which a client may have written.
CREATE INDEX fires_by_job ON taskd.fires (job_id) WHERE job_id IS NOT NULL;
