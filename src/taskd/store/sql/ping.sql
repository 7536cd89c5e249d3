SELECT 1 -- Finds out whether PostgreSQL answers.
