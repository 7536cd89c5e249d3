-- Lists versions of the live configuration, newest first.
SELECT version, at, who, what, "values" FROM taskd.live_versions
WHERE version < %(before)s ORDER BY version DESC LIMIT %(limit)s
