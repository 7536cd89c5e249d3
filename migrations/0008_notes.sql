-- What the attempts of a live job say of themselves. Beside the job and not in its row: those who hold a job's row locked find it
-- where it was (docs/adr/0022-notes.md). Most jobs have none.
CREATE TABLE taskd.notes (
    job_id     bigint PRIMARY KEY,
    progress   json,  -- the latest one
    checkpoint json   -- what the next attempt is given; dropped when the job ends
) WITH (fillfactor = 50);

ALTER TABLE taskd.finished_jobs ADD COLUMN progress json;
