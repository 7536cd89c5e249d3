-- Ends a term so that anybody may take over at once.
UPDATE taskd.leader SET renewed_at = '-infinity', holder = NULL
WHERE {{this_term}}
