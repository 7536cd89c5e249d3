-- Finds the version of the live configuration since which a key has the value that it has now.
SELECT version, at, who, what, "values" FROM taskd.live_versions
WHERE version > coalesce((
    SELECT old.version FROM taskd.live_versions old
    WHERE old."values" -> %(key)s IS DISTINCT FROM (
        SELECT latest."values" -> %(key)s FROM taskd.live_versions latest ORDER BY latest.version DESC LIMIT 1)
    ORDER BY old.version DESC LIMIT 1), 0)
ORDER BY version LIMIT 1
