-- Stops a schedule, unless it is stopped already.
UPDATE taskd.schedules SET paused_at = clock_timestamp(), paused_by = %(who)s, revision = revision + 1
WHERE name = %(name)s AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[])) AND paused_at IS NULL
