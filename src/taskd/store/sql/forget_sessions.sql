-- Deletes sessions that ended an hour ago and own nothing any more, if the term still holds.
DELETE FROM taskd.sessions s
WHERE s.ended_at < clock_timestamp() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.session_id = s.id AND j.status = 'running')
  AND EXISTS (SELECT FROM taskd.leader WHERE epoch = %(epoch)s AND holder = %(holder)s FOR SHARE)
