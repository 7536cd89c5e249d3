-- Lets a schedule that was paused go on from now: the ticks of the pause do not count as missed.
UPDATE taskd.schedules
SET paused_at = NULL, paused_by = NULL, revision = revision + 1, decided_until = clock_timestamp(), next_at = NULL
WHERE name = %(name)s AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[])) AND paused_at IS NOT NULL
