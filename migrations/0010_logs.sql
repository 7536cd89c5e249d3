-- What attempts have logged and printed, in chunks of lines: beside the job and its history, so that a job that says nothing has
-- nothing here, and the row of a running job is left alone (docs/adr/0024-what-attempts-say.md).
CREATE TABLE taskd.logs (
    job_id  bigint   NOT NULL,
    attempt int      NOT NULL,
    line    int      NOT NULL, -- the number of its first line, in the attempt, from 1; numbers that are missing were left out
    lines   smallint NOT NULL CHECK (lines > 0),
    body    json     NOT NULL, -- [[Unix seconds, source, level, text], …]
    PRIMARY KEY (job_id, attempt, line)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- Where the last attempt was when it ended; those before it have theirs in `attempts`.
ALTER TABLE taskd.finished_jobs ADD COLUMN traceback text;
