-- Extends a term and adds to the count of dispatched jobs.
UPDATE taskd.leader SET
    renewed_at = clock_timestamp(), dispatched = dispatched + %(dispatched)s,
    last_dispatch = CASE WHEN %(dispatched)s > 0 THEN clock_timestamp() ELSE last_dispatch END
WHERE {{this_term}}
RETURNING epoch
